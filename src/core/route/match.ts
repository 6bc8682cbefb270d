/** Which pool serves a path. */
export interface Route {
  /** A path as it is, or with `*` at its end: all that begin with what is before it. */
  readonly path: string
  readonly pool: string
}

/** The first route that the path fits, or null. */
export function matchRoute<R extends Route>(routes: readonly R[], path: string): R | null {
  return routes.find((route) => fits(route.path, path)) ?? null
}

function fits(pattern: string, path: string): boolean {
  return pattern.endsWith('*') ? path.startsWith(pattern.slice(0, -1)) : path === pattern
}

/**
 * Whether the path may mean another one than it says. Servers resolve `.` and `..` after the route was found, some also where they are
 * encoded or divided by a backslash: `/public/..%2fprivate` would leave what is behind `/public/*`.
 */
export function isAmbiguousPath(path: string): boolean {
  const segments = path.replace(/%2e/gi, '.').split(/[/\\]|%2f|%5c/i)
  return segments.some((segment) => /^\.{1,2}(;.*)?$/.test(segment))
}
