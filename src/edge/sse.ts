import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ClientConnection, SharedMessages } from '../gateway/client-connection.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { Session } from '../gateway/session.ts'
import { bearerToken, isSameSecret } from '../link/token.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { encodeComment, encodeEvent } from '../protocol/sse.ts'
import type { Persistence } from './persistence.ts'
import { type AllowedOrigins, checkOrigin, requestMeta } from './request-meta.ts'

export interface SseEdgeOptions {
  gateway: Gateway
  pool: string
  allowedOrigins: AllowedOrigins
  /** null: clients that return are as new ones. */
  persistence: Persistence | null
}

const heartbeatMs = 15_000
const rememberedKeys = 64
const reconnectSpreadMs = 2_000
const maxKeyBytes = 255

class SseConnection implements ClientConnection {
  readonly transport = 'sse'
  readonly token = randomBytes(32).toString('base64url')
  /** Answers by Idempotency-Key, the oldest first. */
  readonly posts = new Map<string, Promise<boolean>>()
  session!: Session
  private readonly response: ServerResponse
  private lastId = 0

  constructor(response: ServerResponse) {
    this.response = response
  }

  get pendingBytes(): number {
    return this.response.writableLength
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    const id = String(++this.lastId)
    return this.write(
      text
        ? encodeEvent(batch.toString('utf8', start, end), { id })
        : encodeEvent(batch.toString('base64', start, end), { event: 'binary', id }),
    )
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.sse ??= shared.messages.map(({ payload, text }) =>
      text
        ? encodeEvent(payload.toString('utf8'))
        : encodeEvent(payload.toString('base64'), { event: 'binary' }),
    )
    // The id is the stream's own; the rest is the same for all.
    this.write(shared.encoded.sse.map((event) => `id: ${++this.lastId}\n${event}`).join(''))
  }

  keepsUp(): boolean {
    return !this.response.writableNeedDrain
  }

  write(text: string): boolean {
    return this.response.write(text)
  }

  /** There is nothing to pause: each message is a request of its own, and gets 429 instead. */
  pause(): void {}
  resume(): void {}

  close(code: number, reason: string): void {
    if (this.response.writableEnded) return
    if (code === CloseCode.serviceRestart) {
      // EventSource comes back by itself after this time: to another gateway, and not all at once.
      this.response.end(`retry: ${Math.ceil(Math.random() * reconnectSpreadMs)}\n\n`)
      return
    }
    this.response.end(encodeEvent(JSON.stringify({ code, reason }), { event: 'close' }))
  }
}

/** Terminates SSE: a stream downstream, one request for each message upstream. */
export class SseEdge {
  private readonly options: SseEdgeOptions
  private readonly connections = new Map<string, SseConnection>()
  private readonly heartbeat: NodeJS.Timeout

  constructor(options: SseEdgeOptions) {
    this.options = options
    this.heartbeat = setInterval(() => {
      for (const connection of this.connections.values()) connection.write(encodeComment('hb'))
    }, heartbeatMs)
  }

  /** `GET /sse`. Throws what the client is to be answered. */
  async open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { gateway, pool, allowedOrigins, persistence } = this.options
    checkOrigin(request, allowedOrigins)
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (response.destroyed) return
    const node = persistence === null ? null : gateway.choose(pool, persistence.wish(request))
    const naming = node === null ? [] : persistence!.headers(request, node.id)
    response.writeHead(200, {
      ...Object.fromEntries(naming),
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      ...corsHeaders(request),
    })
    response.socket?.setNoDelay(true)
    const connection = new SseConnection(response)
    response.on('drain', () => connection.session.connectionDrained())
    response.on('close', () => {
      this.connections.delete(connection.session.id)
      connection.session.connectionClosed(connection, CloseCode.abnormal, '')
    })
    const session = gateway.openSession(pool, requestMeta(request, 'sse', ''), connection, node)
    connection.session = session
    this.connections.set(session.id, connection)
    connection.write(
      encodeEvent(JSON.stringify({ session: session.id, token: connection.token }), { event: 'session' }),
    )
  }

  /** `POST /sse/{session}`; resolves when the message is committed. Throws what the client is to be answered. */
  async post(request: IncomingMessage, id: string): Promise<void> {
    checkOrigin(request, this.options.allowedOrigins)
    const connection = this.connections.get(id)
    const token = bearerToken(request.headers.authorization)
    if (token === '')
      throw new EvenkeelError('UNAUTHORIZED', 'Authorization: Bearer <token of the session event> is missing')
    if (connection === undefined) throw new EvenkeelError('NOT_FOUND', 'no such SSE session at this gateway')
    if (!isSameSecret(token, connection.token))
      throw new EvenkeelError('FORBIDDEN', 'the token does not belong to this session')
    const key = request.headers['idempotency-key']
    if (Array.isArray(key) || (key !== undefined && Buffer.byteLength(key) > maxKeyBytes)) {
      throw new EvenkeelError('BAD_REQUEST', `Idempotency-Key has at most ${maxKeyBytes} bytes`)
    }
    const known = key === undefined ? undefined : connection.posts.get(key)
    if (known !== undefined) request.resume()
    const committed = known ?? this.receive(connection.session, request)
    if (key !== undefined && known === undefined) remember(connection.posts, key, committed)
    if (!(await committed))
      throw new EvenkeelError('GONE', 'the session ended before the message was committed')
  }

  close(): void {
    clearInterval(this.heartbeat)
  }

  private async receive(session: Session, request: IncomingMessage): Promise<boolean> {
    if (session.inboxIsFull) throw tooMany()
    const type = request.headers['content-type'] ?? ''
    const text = type === '' || type.startsWith('text/') || type.startsWith('application/json')
    const body = await readBody(request, this.options.gateway.limits.messageBytes)
    if (session.inboxIsFull) throw tooMany()
    return new Promise((resolve) => {
      if (!session.receive(body, text, resolve)) resolve(false)
    })
  }
}

function tooMany(): EvenkeelError {
  return new EvenkeelError(
    'TOO_MANY_REQUESTS',
    'too many messages of this session wait for its node; try again later',
  )
}

function remember(posts: Map<string, Promise<boolean>>, key: string, committed: Promise<boolean>): void {
  posts.set(key, committed)
  // A post that was refused may be tried again with the same key.
  committed.catch(() => posts.delete(key))
  if (posts.size > rememberedKeys) posts.delete(posts.keys().next().value!)
}

async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new EvenkeelError('TOO_LARGE', `a message has at most ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The Origin was checked: a browser page of another origin needs to be told so. */
export function corsHeaders(request: IncomingMessage): Record<string, string> {
  const { origin } = request.headers
  return origin === undefined ? {} : { 'access-control-allow-origin': origin, vary: 'Origin' }
}
