import type { Dialect } from '../llm/dialect.ts'
import type { Affinity } from '../llm/request.ts'

/** Which pool serves a path. */
export interface Route {
  /** A path as it is, or with `*` at its end: all that begin with what is before it. */
  readonly path: string
  readonly pool: string
  /** `llm`: language models. Default `http`. */
  readonly protocol?: 'http' | 'llm'
  /** Of language models. Absent: the path says it. */
  readonly dialect?: Dialect
  /** What leads to the same language model. Absent: nothing. */
  readonly affinity?: Affinity
  /** Of requests to language models that do not say it. Default `attached`. */
  readonly mode?: 'attached' | 'durable'
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
