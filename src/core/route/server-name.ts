/** Names of servers (SNI), exact or with `*.` in front, and what each leads to. */
export type ServerNameRoutes<T> = Readonly<Record<string, T>>

/** A name that routes may have: `a.example`, or `*.example` for all that end so, however deep. */
export const serverNamePattern = /^(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/

/** Where a name in lower case leads: the exact route, or else the longest `*.` that fits; undefined: nowhere. */
export function matchServerName<T>(routes: ServerNameRoutes<T>, name: string): T | undefined {
  if (Object.hasOwn(routes, name)) return routes[name]
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) {
    const wildcard = `*${name.slice(dot)}`
    if (Object.hasOwn(routes, wildcard)) return routes[wildcard]
  }
  return undefined
}
