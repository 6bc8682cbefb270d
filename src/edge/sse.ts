import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Gateway } from '../gateway/gateway.ts'
import { hashToken, type ResumeRequest } from '../gateway/resumable.ts'
import { ResumableSession } from '../gateway/resumable-session.ts'
import { bearerToken } from '../link/token.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { endedEventId, parseCursor } from '../protocol/sse-cursor.ts'
import type { Admission } from './admission/admission.ts'
import { otherGateway, ownerTag, restoreForwarded } from './engine-io-forward.ts'
import { beginEventStream } from './event-stream.ts'
import { watchSender } from './identity/watch.ts'
import { readBody } from './request-body.ts'
import { checkOrigin, requestMeta, shownBy } from './request-meta.ts'
import { channelKey, SseConnection } from './sse-connection.ts'
import { SseForwarder, sessionTokenHeader, shownUserHeader } from './sse-forward.ts'
import { elsewhere, SsePosts } from './sse-posts.ts'
import type { Target } from './target.ts'

export interface SseEdgeOptions {
  gateway: Gateway
  admission: Admission
  /** What the gateways of the cluster know each other by; null: they are on one machine. */
  peerToken: string | null
}

/** Of a token that takes the place of another one. */
const tokenBytes = 8_192
const tagPattern = /^[A-Za-z0-9_-]{8}$/

/** Terminates SSE: a stream downstream, one request for each message upstream (PROTOCOL.md §3). */
export class SseEdge {
  private readonly options: SseEdgeOptions
  private readonly ownTag: string
  private readonly connections = new Set<SseConnection>()
  private readonly posts: SsePosts
  private readonly forwarder: SseForwarder
  private readonly heartbeat: NodeJS.Timeout

  constructor(options: SseEdgeOptions) {
    this.options = options
    this.ownTag = ownerTag(options.gateway.id)
    this.posts = new SsePosts(options.gateway)
    this.forwarder = new SseForwarder(options.peerToken)
    this.heartbeat = setInterval(() => {
      for (const connection of this.connections) connection.beat()
    }, options.gateway.limits.sseHeartbeatMs)
  }

  /** `GET /sse`. Throws what the client is to be answered. */
  async open(
    request: IncomingMessage,
    response: ServerResponse,
    { pool, path, key, persistence, headers, settings }: Target,
  ): Promise<void> {
    const { gateway } = this.options
    checkOrigin(request, settings.allowedOrigins)
    const lastId = request.headers['last-event-id'] ?? ''
    if (lastId === endedEventId) {
      response.writeHead(204, corsHeaders(request)).end()
      return
    }
    // EventSource takes any other status for the end of all attempts: it is held, or sent away by an event.
    const isPatient = lastId !== '' || (request.headers.accept ?? '').includes('text/event-stream')
    if (!isPatient && !gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (response.destroyed) return
    const chosen =
      persistence === null ? null : gateway.choose(pool, persistence.wish(request), shownBy(request, key))
    const naming = chosen === null ? [] : persistence!.headers(request, chosen.id)
    beginEventStream(response, corsHeaders(request), [...headers, ...naming])
    const connection = new SseConnection(response, this.ownTag, gateway.limits, gateway.now)
    this.connections.add(connection)
    response.on('drain', () => connection.drained())
    response.on('close', () => {
      this.connections.delete(connection)
      connection.watch?.stop()
      connection.session?.connectionClosed(connection, CloseCode.abnormal, '')
    })
    connection.watch = watchSender(request, connection)
    const arrival = { pool, meta: requestMeta(request, 'sse', '', path), connection, chosen, key }
    const resume = requestOf(String(lastId))
    if (lastId === '' || resume !== null) gateway.resumes.hello(arrival, resume)
    else gateway.resumes.helloUnknown(arrival)
  }

  /** `POST`, `PUT` and `DELETE /sse/{session}`. Answers; throws what the client is to be answered else. */
  async command(
    request: IncomingMessage,
    response: ServerResponse,
    id: string,
    { settings, identity }: Target,
  ): Promise<void> {
    checkOrigin(request, settings.allowedOrigins)
    const user = identity?.user ?? ''
    const token = bearerToken(request.headers.authorization)
    if (token === '')
      throw new EvenkeelError('UNAUTHORIZED', 'Authorization: Bearer <token of the session event> is missing')
    const session = this.sessionHere(id)
    const owner = session === null ? await otherGateway(this.options.gateway, tagOf(token)) : null
    if (owner === null) await this.execute(request, response, id, token, user)
    else await this.forwarder.forward(owner, request, response, token, corsHeaders(request), user)
  }

  /** A request that another gateway has checked and sent here. It is not sent on, whoever has the session. */
  async forwarded(request: IncomingMessage, response: ServerResponse, id: string): Promise<void> {
    restoreForwarded(request)
    const shown = (name: string) => String(request.headers[name] ?? '')
    const user = decodeURIComponent(shown(shownUserHeader))
    await this.execute(request, response, id, shown(sessionTokenHeader), user)
  }

  close(): void {
    clearInterval(this.heartbeat)
    this.forwarder.close()
  }

  private async execute(
    request: IncomingMessage,
    response: ServerResponse,
    id: string,
    token: string,
    user: string,
  ): Promise<void> {
    const session = this.sessionHere(id)
    if (session === null) throw this.notHere(id, token)
    if (session.closing !== null) throw new EvenkeelError('GONE', 'the session has ended')
    const tokenHash = hashToken(token.split('.', 1)[0]!, 'sse')
    if (user !== '' && user !== (session.resumable.user ?? user))
      throw new EvenkeelError('FORBIDDEN', 'the session belongs to another user')
    if (session.resumable.hasUsed(tokenHash))
      throw new EvenkeelError(
        'TOKEN_USED',
        'the token is an earlier one: take that of the last session event',
      )
    if (!session.accepts(tokenHash)) {
      throw new EvenkeelError(
        'FORBIDDEN',
        'the token does not belong to this session, or is much too old: take that of the last session event',
      )
    }
    if (session.resumable.expired && request.method !== 'DELETE')
      throw new EvenkeelError('UNAUTHORIZED', "the client's token has expired: come back with another one")
    session.tokenShown(tokenHash)
    const connection = session.connection instanceof SseConnection ? session.connection : null
    if (request.method === 'PUT') {
      await this.refresh(request, connection)
      response.writeHead(204, corsHeaders(request)).end()
      return
    }
    if (request.method === 'DELETE') {
      session.dismiss(CloseCode.normal, 'the client has left')
      response.writeHead(204, corsHeaders(request)).end()
      return
    }
    this.options.admission.message(request, session, session.resumable.user ?? null)
    await this.posts.take(request, session)
    response.writeHead(202, corsHeaders(request)).end()
  }

  /** The body is another token of the session's user. */
  private async refresh(request: IncomingMessage, connection: SseConnection | null): Promise<void> {
    const token = (await readBody(request, tokenBytes)).toString().trim()
    if (connection === null)
      throw new EvenkeelError('CONFLICT', 'the session has no stream now: come back with the new token')
    if (connection.watch === null) throw new EvenkeelError('NOT_FOUND', 'nobody asks who clients are')
    await connection.watch.refresh(token)
  }

  private sessionHere(id: string): ResumableSession | null {
    const session = this.options.gateway.sessionsById.get(id)
    return session instanceof ResumableSession && session.transport === 'sse' ? session : null
  }

  private notHere(id: string, token: string): EvenkeelError {
    const { gateway } = this.options
    const tag = tagOf(token)
    // With its gateway gone, the session goes on where its stream comes back to.
    const isHomeless = tagPattern.test(tag) && tag !== this.ownTag
    if (isHomeless || gateway.stopping || gateway.isElsewhere(id)) return elsewhere()
    return new EvenkeelError('NOT_FOUND', 'no such SSE session')
  }
}

function tagOf(token: string): string {
  return token.slice(token.indexOf('.') + 1)
}

function requestOf(lastId: string): ResumeRequest | null {
  const cursor = parseCursor(lastId)
  if (cursor === null) return null
  const { session, token, out, positions } = cursor
  return { session, token, out, since: (channel) => positions.get(channelKey(channel)) ?? null }
}

/** The Origin was checked: a browser page of another origin needs to be told so. */
export function corsHeaders(request: IncomingMessage): Record<string, string> {
  const { origin } = request.headers
  return origin === undefined ? {} : { 'access-control-allow-origin': origin, vary: 'Origin' }
}
