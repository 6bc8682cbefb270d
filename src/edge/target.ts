import type { IncomingMessage } from 'node:http'
import { isAmbiguousPath, matchRoute, type Route } from '../core/route/match.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Persistence } from './persistence.ts'
import { type AllowedOrigins, splitTarget } from './request-meta.ts'

/** How requests are judged. It is replaced as a whole: a request keeps what it was judged by. */
export interface EdgeSettings {
  /** The pool that serves clients where no route says otherwise. */
  readonly pool: string
  readonly allowedOrigins: AllowedOrigins
  /** Before all other paths. */
  readonly routes: readonly Route[]
  /** By pool; none: clients that return are as new ones. */
  readonly persistence: ReadonlyMap<string, Persistence>
}

/** The settings of this moment. */
export interface LiveSettings {
  readonly current: EdgeSettings
}

/** What was found out of a request before an edge takes it. */
export interface Target {
  readonly settings: EdgeSettings
  /** Without the query. */
  readonly path: string
  /** null: none of the routes. */
  readonly route: Route | null
  readonly pool: string
  readonly persistence: Persistence | null
}

const chatPath = /^(.+)\/([^/]+)\/stream$/

/** Where the stream of a chat is asked for: the path of its route and the chat, as it is written there. */
export function splitChatPath(path: string): [base: string, chat: string] | null {
  const [, base, chat] = chatPath.exec(path) ?? []
  return base === undefined ? null : [base, chat!]
}

/** Throws BAD_REQUEST. */
export function targetOf(request: IncomingMessage, settings: EdgeSettings): Target {
  const [path] = splitTarget(request.url!)
  const route = routeOf(request, path, settings.routes)
  if (route !== null && isAmbiguousPath(path)) {
    throw new EvenkeelError('BAD_REQUEST', 'a path that has . or .. among its segments may mean another one')
  }
  const pool = route?.pool ?? settings.pool
  return { settings, path, route, pool, persistence: settings.persistence.get(pool) ?? null }
}

function routeOf({ method }: IncomingMessage, path: string, routes: readonly Route[]): Route | null {
  // Whether the gateway lives is asked of the gateway.
  if (path === '/healthz' || path === '/readyz') return null
  const [base] = (method === 'GET' && splitChatPath(path)) || []
  const ofChat = base === undefined ? null : matchRoute(routes, base)
  return ofChat?.protocol === 'llm' ? ofChat : matchRoute(routes, path)
}
