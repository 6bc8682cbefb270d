import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Gateway } from '../gateway/gateway.ts'
import { randomText } from '../gateway/random-text.ts'
import { helloBytes } from '../protocol/client-frames.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { encodeComment } from '../protocol/sse.ts'
import { decodeTunnelFrames } from '../protocol/tunnel-frames.ts'
import type { Admission } from './admission/admission.ts'
import { otherGateway, ownerTag, restoreForwarded } from './engine-io-forward.ts'
import { beginEventStream } from './event-stream.ts'
import { watchSender } from './identity/watch.ts'
import { readBody } from './request-body.ts'
import { checkOrigin, requestMeta, shownBy, splitTarget } from './request-meta.ts'
import { corsHeaders } from './sse.ts'
import { SseForwarder } from './sse-forward.ts'
import type { Target } from './target.ts'
import { TunnelConnection } from './tunnel-connection.ts'
import { requestOf, v1Options } from './v1-conversation.ts'

export interface TunnelEdgeOptions {
  gateway: Gateway
  admission: Admission
  /** See `EngineIoEdge`. */
  peerToken: string | null
  onError(error: unknown): void
}

const tunnelPath = '/sse/v1'
const heartbeatMs = 15_000

/** With a slash behind it and nothing more it is neither: who opens one must not look like who has one. */
export function isTunnel(path: string): boolean {
  return path === tunnelPath || (path.startsWith(`${tunnelPath}/`) && path.length > tunnelPath.length + 1)
}

/** `evenkeel.v1` for clients whose WebSockets do not get through (PROTOCOL.md §2.3): events downstream, one request at a time upstream. */
export class TunnelEdge {
  private readonly options: TunnelEdgeOptions
  private readonly connections = new Map<string, TunnelConnection>()
  private readonly heartbeat: NodeJS.Timeout
  private readonly forwarder: SseForwarder
  private readonly ownTag: string

  constructor(options: TunnelEdgeOptions) {
    this.options = options
    this.forwarder = new SseForwarder(options.peerToken)
    this.ownTag = ownerTag(options.gateway.id)
    this.heartbeat = setInterval(() => {
      for (const connection of this.connections.values()) connection.comment(encodeComment('hb'))
    }, heartbeatMs)
  }

  /** A request to `/sse/v1` or below. Throws what the client is to be answered. */
  async request(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    checkOrigin(request, target.settings.allowedOrigins)
    if (request.method !== 'POST') throw new EvenkeelError('METHOD_NOT_ALLOWED', 'use POST')
    const id = idOf(request)
    const owner = id === '' ? null : await otherGateway(this.options.gateway, id.split('.', 1)[0]!)
    // The id is all that such a client has to show.
    if (owner !== null) await this.forwarder.forward(owner, request, response, '', corsHeaders(request))
    else if (id === '') await this.open(request, response, target)
    else await this.frames(request, response, id)
  }

  /** A request that another gateway has checked and sent here. It is not sent on. Throws what the client is to be answered. */
  async forwarded(request: IncomingMessage, response: ServerResponse): Promise<void> {
    restoreForwarded(request)
    await this.frames(request, response, idOf(request))
  }

  close(): void {
    clearInterval(this.heartbeat)
    this.forwarder.close()
  }

  /** The body is the hello, the answer the stream. */
  private async open(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    const { gateway } = this.options
    const { pool, path, key, persistence, headers } = target
    const hello = await readBody(request, helloBytes)
    if (gateway.stopping) await gateway.waitForNode(pool)
    if (response.destroyed) return
    const chosen =
      persistence === null ? null : gateway.choose(pool, persistence.wish(request), shownBy(request, key))
    const naming = chosen === null ? [] : persistence!.headers(request, chosen.id)
    beginEventStream(response, corsHeaders(request), [...headers, ...naming])
    const id = `${this.ownTag}.${randomText(24)}`
    // It counts as a WebSocket: a session may go from one to the other.
    const meta = requestMeta(request, 'websocket', 'evenkeel.v1', path)
    const connection = new TunnelConnection(response, {
      ...v1Options(this.options, target, request),
      onHello: (resume) => gateway.resumes.hello({ pool, meta, connection, chosen, key }, requestOf(resume)),
    })
    connection.pace = this.options.admission.paceOf(request)
    connection.watch = watchSender(request, connection)
    this.connections.set(id, connection)
    response.on('close', () => {
      this.connections.delete(id)
      connection.ended(CloseCode.abnormal, '')
    })
    connection.begin(id)
    connection.received(hello, true)
  }

  /** The body is frames; the answer follows when the client may send the next ones. */
  private async frames(request: IncomingMessage, response: ServerResponse, id: string): Promise<void> {
    const connection = this.connections.get(id)
    if (connection === undefined) throw new EvenkeelError('NOT_FOUND', 'no such connection at this gateway')
    if (connection.posting) throw new EvenkeelError('CONFLICT', 'one request at a time')
    connection.posting = true
    try {
      // One message of the largest size, and as much again of others.
      const body = await readBody(request, 2 * this.options.gateway.limits.messageBytes)
      for (const frame of decodeTunnelFrames(body)) {
        if (frame.kind === 'close') connection.ended(frame.code, clipCloseReason(frame.reason))
        else connection.received(bufferOf(frame.payload), frame.text)
      }
      await connection.mayGoOn()
    } finally {
      connection.posting = false
    }
    response.writeHead(204, corsHeaders(request)).end()
  }
}

function idOf(request: IncomingMessage): string {
  return splitTarget(request.url!)[0].slice(tunnelPath.length + 1)
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length)
}
