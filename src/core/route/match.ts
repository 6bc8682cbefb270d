import type { Dialect } from '../llm/dialect.ts'
import type { Affinity } from '../llm/request.ts'
import { fitsAll, headerValues, type RequestConditions, type ShownRequest } from './conditions.ts'
import type { Split, Sticky } from './split.ts'

/** What is spoken at a path that leads to nodes. */
export const nodeProtocols = ['websocket', 'sse', 'socket.io', 'engine.io', 'runs'] as const
export type NodeProtocol = (typeof nodeProtocols)[number]

/** `http`: passed on to upstreams. `llm`: language models, upstreams too. */
export const routeProtocols = ['http', 'llm', ...nodeProtocols] as const
export type RouteProtocol = (typeof routeProtocols)[number]

/** What leads a client to the same node again, where the policy of the pool is `key-hash`. */
export type RouteKey =
  | { readonly header: string }
  | { readonly cookie: string }
  | { readonly query: string }
  | { readonly claim: string }
  | { readonly ip: true }

/** Which pool serves which requests. */
export interface Route extends RequestConditions {
  /** For operators. */
  readonly name?: string
  /**
   * A path as it is, or with `*` at its end: all that begin with what is before it. Of `sse`, `runs`, `socket.io` and `engine.io` what is
   * below the path belongs to it.
   */
  readonly path: string
  /** A host name, or `*.` and one: all below that. Absent: any. */
  readonly host?: string
  /** Absent: any. */
  readonly methods?: readonly string[]
  /** The pool of all that `split` gives to no other. */
  readonly pool: string
  readonly split?: readonly Split[]
  /** What a client is known by, so that it keeps its part of the split. */
  readonly sticky?: Sticky
  /** Pools, beside their own, whose runs its clients may start. Absent: none. */
  readonly runPools?: readonly string[]
  /** Default `http`. */
  readonly protocol?: RouteProtocol
  /** Of language models. Absent: the path says it. */
  readonly dialect?: Dialect
  /** Absent: nothing leads to the same server; of nodes, what the pool says does. */
  readonly affinity?: Affinity | RouteKey
  /** Whether clients must say who they are; `none`: what they say is not looked at. Absent: as everywhere. */
  readonly auth?: 'required' | 'optional' | 'none'
  /** Of requests to language models that do not say it. Default `attached`. */
  readonly mode?: 'attached' | 'durable'
}

/** What routes are matched with. */
export interface RoutedRequest extends ShownRequest {
  /** Without the query, and plain: see `plainPath`. */
  readonly path: string
}

/** The first route that the request fits, or null. */
export function matchRoute<R extends Route>(routes: readonly R[], request: RoutedRequest): R | null {
  return routes.find((route) => fitsRoute(route, request)) ?? null
}

function fitsRoute(route: Route, request: RoutedRequest): boolean {
  return (
    fitsPath(route, request.path) &&
    (route.methods === undefined || route.methods.includes(request.method)) &&
    (route.host === undefined || fitsHost(route.host, hostOf(request))) &&
    fitsAll(route, request)
  )
}

function fitsPath({ path: written, protocol }: Route, path: string): boolean {
  const pattern = plainPath(written)
  if (pattern.endsWith('*')) return path.startsWith(pattern.slice(0, -1))
  return path === pattern || (isTree(protocol) && isBelow(path, pattern))
}

/** A session, a run, a poll has a path below that of its route. */
function isTree(protocol: RouteProtocol | undefined): boolean {
  return (
    protocol !== undefined && protocol !== 'websocket' && nodeProtocols.includes(protocol as NodeProtocol)
  )
}

function isBelow(path: string, pattern: string): boolean {
  const base = withoutSlash(pattern)
  return path.startsWith(base) && (path.length === base.length || path[base.length] === '/')
}

function withoutSlash(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path
}

/** What a path is below that of its route: `/3/events` of `/chat/runs/3/events`; '' of the route's own path. `path`: plain. */
export function pathBelow({ path: pattern }: Route, path: string): string {
  return path.slice(withoutSlash(plainPath(pattern)).length)
}

const unreserved = /[\w.~-]/

/**
 * The path as it is written plainly (RFC 3986 §6.2.2): no letter needs to be encoded, and to servers `/%61dmin` is `/admin`. A route that
 * does not know it would leave it to one that asks less.
 */
export function plainPath(path: string): string {
  if (!path.includes('%')) return path
  return path.replace(/%[\da-f]{2}/gi, (encoded) => {
    const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16))
    return unreserved.test(character) ? character : encoded.toUpperCase()
  })
}

const defaultPaths: readonly (readonly [base: string, protocol: NodeProtocol])[] = [
  ['/ws', 'websocket'],
  ['/sse', 'sse'],
  ['/socket.io', 'socket.io'],
  ['/engine.io', 'engine.io'],
  ['/runs', 'runs'],
]

/** What is spoken at a path where no route says otherwise; null: nothing. */
export function protocolOfPath(path: string): NodeProtocol | null {
  return defaultPaths.find(([base]) => withoutSlash(path) === base)?.[1] ?? null
}

export function fitsHost(pattern: string, header: string): boolean {
  const host = hostNameOf(header)
  if (!pattern.startsWith('*.')) return host === pattern.toLowerCase()
  const parent = pattern.slice(1).toLowerCase()
  return host.length > parent.length && host.endsWith(parent)
}

/** HTTP/2 may say it by a pseudo-header alone. */
function hostOf(request: RoutedRequest): string {
  return (headerValues(request, 'host')[0] ?? headerValues(request, ':authority')[0]) || ''
}

/** Of a Host header: in lower case, without port and the dot of the root. */
function hostNameOf(header: string): string {
  return header.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '')
}

/**
 * Whether the path may mean another one than it says. Servers resolve `.` and `..` after the route was found, some also where they are
 * encoded or divided by a backslash: `/public/..%2fprivate` would leave what is behind `/public/*`.
 */
export function isAmbiguousPath(path: string): boolean {
  const segments = path.replace(/%2e/gi, '.').split(/[/\\]|%2f|%5c/i)
  return segments.some((segment) => /^\.{1,2}(;.*)?$/.test(segment))
}
