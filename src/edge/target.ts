import type { IncomingMessage } from 'node:http'
import type { OverloadRules } from '../core/health/overload.ts'
import type { RateLimits } from '../core/limits/rules.ts'
import type { TrustRules } from '../core/net/forwarded.ts'
import { claimValues, cookiesOf, headerValues } from '../core/route/conditions.ts'
import {
  isAmbiguousPath,
  matchRoute,
  type NodeProtocol,
  pathBelow,
  plainPath,
  type Route,
  type RoutedRequest,
  type RouteKey,
} from '../core/route/match.ts'
import { forcedPart, partOf, type Sticky } from '../core/route/split.ts'
import { randomText } from '../gateway/random-text.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Identification } from './identity/identification.ts'
import type { Identity } from './identity/identity.ts'
import { identityOf } from './identity/sender.ts'
import { cookieHeader, type Persistence } from './persistence.ts'
import { type AllowedOrigins, clientAddress, splitTarget } from './request-meta.ts'

/** How requests are judged. It is replaced as a whole: a request keeps what it was judged by. */
export interface EdgeSettings {
  /** The pool that serves clients where no route says otherwise. */
  readonly pool: string
  readonly allowedOrigins: AllowedOrigins
  /** null: what proxies say of clients is not believed. */
  readonly trust: TrustRules | null
  /** Before all other paths. */
  readonly routes: readonly Route[]
  /** By pool; none: clients that return are as new ones. */
  readonly persistence: ReadonlyMap<string, Persistence>
  readonly rateLimits: RateLimits
  /** null: the load is not judged. */
  readonly overload: OverloadRules | null
  /** null: nobody asks who clients are. */
  readonly identification: Identification | null
}

/** The settings of this moment. */
export interface LiveSettings {
  readonly current: EdgeSettings
}

export type HeaderPair = [name: string, value: string]

/** What was found out of a request before an edge takes it. */
export interface Target {
  readonly settings: EdgeSettings
  /** As the client has asked, without the query. */
  readonly path: string
  /** The same at its default place: `/sse/3` of `/chat/sse/3`. */
  readonly local: string
  /** null: none of the routes. */
  readonly route: Route | null
  /** The route leads to upstreams. */
  readonly isProxied: boolean
  readonly pool: string
  /** What leads to the client's node where the pool's policy is `key-hash`; null: what the pool says does. */
  readonly key: string | null
  readonly persistence: Persistence | null
  /** What the answer is to say, so that the client keeps its part of a split. */
  readonly headers: readonly HeaderPair[]
  /** Who sends it; null: not known. */
  readonly identity: Identity | null
}

const defaultStickyCookie = 'evenkeel-client'
const stickyMaxAgeSeconds = 365 * 24 * 3600
/** Longer ones are cut: clients choose them. */
const keyCharsMax = 1_024

const chatPath = /^(.+)\/([^/]+)\/stream$/

/** Where the stream of a chat is asked for: the path of its route and the chat, as it is written there. */
export function splitChatPath(path: string): [base: string, chat: string] | null {
  const [, base, chat] = chatPath.exec(path) ?? []
  return base === undefined ? null : [base, chat!]
}

/** Throws BAD_REQUEST. */
export function targetOf(request: IncomingMessage, settings: EdgeSettings): Target {
  const identity = identityOf(request)
  const claims = identity?.claims ?? null
  const [path, query] = splitTarget(request.url!)
  const plain = plainPath(path)
  const shown = { method: request.method ?? 'GET', path: plain, query, headers: request.headers, claims }
  const route = routeOf(shown, settings.routes)
  if (route === null) {
    const { pool } = settings
    const persistence = settings.persistence.get(pool) ?? null
    const rest = { isProxied: false, key: null, headers: [] }
    return { settings, path, local: path, route, pool, persistence, identity, ...rest }
  }
  if (isAmbiguousPath(path)) {
    throw new EvenkeelError('BAD_REQUEST', 'a path that has . or .. among its segments may mean another one')
  }
  const { pool, headers } = partOfRoute(request, route, shown)
  const key = route.affinity === undefined ? null : keyOf(request, route.affinity as RouteKey, shown)
  const persistence = settings.persistence.get(pool) ?? null
  const base = localBase(route)
  const local = base === null ? path : localPath(route, base, plain)
  return { settings, path, local, route, isProxied: base === null, pool, key, persistence, headers, identity }
}

/** Where the protocol has its place by default; null: the route leads to upstreams. */
function localBase({ protocol = 'http' }: Route): string | null {
  return protocol === 'http' || protocol === 'llm' ? null : localBases[protocol]
}

const localBases: Readonly<Record<NodeProtocol, string>> = {
  websocket: '/ws',
  sse: '/sse',
  'socket.io': '/socket.io',
  'engine.io': '/engine.io',
  runs: '/runs',
}

function localPath(route: Route, base: string, path: string): string {
  return route.protocol === 'websocket' ? base : base + pathBelow(route, path)
}

function routeOf(request: RoutedRequest, routes: readonly Route[]): Route | null {
  const { method, path } = request
  // Whether the gateway lives is asked of the gateway.
  if (routes.length === 0 || path === '/healthz' || path === '/readyz') return null
  const [base] = (method === 'GET' && splitChatPath(path)) || []
  const ofChat = base === undefined ? null : matchRoute(routes, { ...request, path: base })
  return ofChat?.protocol === 'llm' ? ofChat : matchRoute(routes, request)
}

function partOfRoute(
  request: IncomingMessage,
  { pool, split, sticky = { by: 'cookie' } }: Route,
  shown: RoutedRequest,
): Pick<Target, 'pool' | 'headers'> {
  if (split === undefined) return { pool, headers: [] }
  const forced = forcedPart(split, shown)
  if (forced !== null) return { pool: forced.pool, headers: [] }
  const known = stickyKey(request, sticky, shown)
  if (known !== null) return { pool: partOf(split, known, sticky.seed)?.pool ?? pool, headers: [] }
  if (sticky.by !== 'cookie') return { pool, headers: [] }
  const id = randomText(16)
  const name = sticky.name ?? defaultStickyCookie
  const cookie: HeaderPair = ['set-cookie', cookieHeader(request, name, id, stickyMaxAgeSeconds)]
  return { pool: partOf(split, id, sticky.seed)?.pool ?? pool, headers: [cookie] }
}

function stickyKey(request: IncomingMessage, { by, name }: Sticky, shown: RoutedRequest): string | null {
  switch (by) {
    case 'ip':
      return clientAddress(request)
    case 'cookie':
      return first(cookiesOf(shown, name ?? defaultStickyCookie))
    case 'header':
      return first(headerValues(shown, name ?? ''))
    case 'claim':
      return first(claimValues(shown.claims, name ?? ''))
  }
}

function keyOf(request: IncomingMessage, place: RouteKey, shown: RoutedRequest): string | null {
  if ('ip' in place) return clientAddress(request)
  if ('cookie' in place) return first(cookiesOf(shown, place.cookie))
  if ('query' in place) return first(new URLSearchParams(shown.query).getAll(place.query))
  if ('claim' in place) return first(claimValues(shown.claims, place.claim))
  // A language model's may be a field of the body, which is read later.
  return 'header' in place ? first(headerValues(shown, place.header)) : null
}

/** Who shows nothing is no single client. */
function first([value = '']: readonly string[]): string | null {
  return value === '' ? null : value.slice(0, keyCharsMax)
}
