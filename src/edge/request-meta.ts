import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { ShownClient } from '../core/balance/client-key.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import type { SessionMeta } from '../protocol/link-records.ts'
import { clientAddress, clientHost } from './client-view.ts'
import { identityHeaders, identityMeta, isOwnHeader } from './identity/sender.ts'

export { clientAddress } from './client-view.ts'

/** Of this hop only, or forged by the client: what the gateway knows better. */
const withheld = new Set([
  'connection',
  // It holds the token of an SSE session.
  'last-event-id',
  'upgrade',
  'keep-alive',
  'transfer-encoding',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-extensions',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-real-ip',
])

/** What nodes learn of the client. `asked`: the path that it has asked for, where that is not the one of the request any more. */
export function requestMeta(
  request: IncomingMessage,
  transport: SessionMeta['transport'],
  subprotocol: string,
  asked?: string,
): Omit<SessionMeta, 'id'> {
  const [local, query] = splitTarget(request.url ?? '/')
  const path = asked ?? local
  // No prototype: `__proto__` is a header name that clients may send (CVE-2026-21710).
  const headers: Record<string, string> = Object.create(null)
  const { rawHeaders } = request
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase()
    if (withheld.has(name) || isOwnHeader(request, name)) continue
    const value = rawHeaders[i + 1]!
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  for (const [name, value] of identityHeaders(request)) headers[name] = value
  const client = { transport, address: clientAddress(request), path, query, headers, subprotocol }
  return { ...client, ...identityMeta(request) }
}

/** What its key is found in, for policies that place clients by one; or `key` itself, where the route has found it. */
export function shownBy(request: IncomingMessage, key: string | null = null): ShownClient {
  const [, query] = splitTarget(request.url ?? '/')
  return { address: clientAddress(request), query, headers: request.headers, key }
}

export function splitTarget(target: string): [path: string, query: string] {
  const at = target.indexOf('?')
  return at === -1 ? [target, ''] : [target.slice(0, at), target.slice(at + 1)]
}

/**
 * Refuses what no well-meant client sends and what other servers read in different ways (request smuggling, SSRF by absolute URI).
 * Throws BAD_REQUEST, HEADERS_TOO_LARGE.
 */
export function checkRequest(request: IncomingMessage, limits: Readonly<Limits>): void {
  const { rawHeaders, url = '' } = request
  if (rawHeaders.length / 2 > limits.headerCount) {
    throw new EvenkeelError('HEADERS_TOO_LARGE', `at most ${limits.headerCount} headers`)
  }
  if (!url.startsWith('/') || url.startsWith('//'))
    throw new EvenkeelError('BAD_REQUEST', 'the request target must be a path')
  // Not for servers, and some of them cut it off before they look at the path.
  if (url.includes('#')) throw new EvenkeelError('BAD_REQUEST', 'the request target must not have a fragment')
  const coding = request.headers['transfer-encoding']
  if (coding !== undefined && coding.toLowerCase() !== 'chunked')
    throw new EvenkeelError('BAD_REQUEST', 'Transfer-Encoding must be chunked, if it is there')
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.toLowerCase() === 'host') hosts++
  if (hosts !== 1) throw new EvenkeelError('BAD_REQUEST', 'exactly one Host header is required')
}

/** An upgrade request has no body. Throws BAD_REQUEST. */
export function checkNoBody(request: IncomingMessage): void {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if (coding !== undefined || (length !== undefined && length !== '0')) {
    throw new EvenkeelError('BAD_REQUEST', 'an upgrade request must not have a body')
  }
}

export type AllowedOrigins = 'same-host' | '*' | readonly string[]

/** Cross-site WebSocket hijacking: browsers send Origin, other clients mostly do not. Throws FORBIDDEN. */
export function checkOrigin(request: IncomingMessage, allowed: AllowedOrigins): void {
  const { origin } = request.headers
  if (origin === undefined || allowed === '*') return
  const ok =
    allowed === 'same-host'
      ? URL.canParse(origin) && new URL(origin).host === clientHost(request).toLowerCase()
      : allowed.includes(origin)
  if (!ok) throw new EvenkeelError('FORBIDDEN', 'this Origin may not connect; add it to allowedOrigins')
}

const waiting = new WeakMap<Socket, number>()

/**
 * Puts off a request that was sent behind one that is not answered yet. Until then its response has no connection, so nobody would
 * hear that this one has ended: what is kept for the client would be kept for good. More than `most` of them cost the connection.
 * Over HTTP/2 nobody has to wait for others.
 */
export function whenItsTurn(response: ServerResponse, most: number, begin: () => void): void {
  if (response.socket !== null || !(response instanceof ServerResponse)) {
    begin()
    return
  }
  const { socket } = response.req
  const count = (waiting.get(socket) ?? 0) + 1
  if (count > most) {
    cut(socket)
    return
  }
  waiting.set(socket, count)
  response.once('socket', () => {
    waiting.set(socket, waiting.get(socket)! - 1)
    begin()
  })
}

/** As Node's parser calls whoever takes requests; what it is told of the body may be "here HTTP ends". */
interface ParserView {
  parser?: { onIncoming: () => number } | null
}

const noMoreHttp = 2

/** One chunk may hold a thousand requests more, and Node makes and aborts each of them, with a stack trace: nothing behind this one is parsed. */
function cut(socket: Socket & ParserView): void {
  if (socket.parser) socket.parser.onIncoming = () => noMoreHttp
  socket.destroy()
}
