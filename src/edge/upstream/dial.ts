import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { WebSocket } from 'ws'
import { DialError, type UpstreamDial, type UpstreamListener } from '../../gateway/upstream-connection.ts'
import type { UpstreamOutcome } from '../../gateway/upstream-directory.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { Limits } from '../../protocol/limits.ts'
import { clientAddress } from '../request-meta.ts'
import { endToEnd, type HeaderPair, upstreamHeaders } from './headers.ts'
import { proxyHeaderFor } from './proxy-header.ts'
import { connectTo } from './socket.ts'
import { UpstreamWebSocket } from './websocket-upstream.ts'

/** Those of the handshake itself: each hop makes its own. */
function isHandshakeHeader(name: string): boolean {
  return name.startsWith('sec-websocket-') || name === 'content-length' || name === 'expect'
}

/** Dials upstreams as one client asked, by its handshake. */
export class WebSocketDial implements UpstreamDial {
  readonly resumable = true
  /** What the first upstream answered, for the client. */
  answer: { headers: HeaderPair[]; subprotocol: string } | null = null
  private readonly request: IncomingMessage
  private readonly offered: string[]
  private readonly limits: Readonly<Limits>
  private readonly opened: (connection: UpstreamWebSocket) => void

  /** Throws BAD_REQUEST. `opened` is given each connection that is made. */
  constructor(
    request: IncomingMessage,
    limits: Readonly<Limits>,
    opened: (connection: UpstreamWebSocket) => void,
  ) {
    this.request = request
    this.limits = limits
    this.opened = opened
    this.offered = parseSubprotocols(request.headers['sec-websocket-protocol'] ?? '')
  }

  async open(
    entry: UpstreamEntry,
    listener: UpstreamListener,
    signal: AbortSignal,
  ): Promise<UpstreamWebSocket> {
    try {
      const connection = await this.dial(entry, listener, signal)
      entry.report('ok')
      this.opened(connection)
      return connection
    } catch (error) {
      if (!signal.aborted) entry.report(outcomeOf(error))
      throw error
    }
  }

  private dial(
    entry: UpstreamEntry,
    listener: UpstreamListener,
    signal: AbortSignal,
  ): Promise<UpstreamWebSocket> {
    const { upstream } = entry
    const { limits, request, answer } = this
    let socket: Socket | undefined
    // The client has its subprotocol: another upstream speaks the same one, or does not get the session.
    const offered = answer === null ? this.offered : answer.subprotocol === '' ? [] : [answer.subprotocol]
    const ws = new WebSocket(upstream.url, offered, {
      headers: joined(upstreamHeaders(request, upstream.url, isHandshakeHeader)),
      // It may be called again for a redirect; none is followed.
      createConnection: () => {
        socket = connectTo(upstream, proxyHeaderFor(entry, request.socket, clientAddress(request)))
        return socket
      },
      followRedirects: false,
      finishRequest(handshake) {
        // As it came: a URL would be another path for some targets, and none at all for others.
        handshake.path = request.url!
        handshake.end()
      },
      perMessageDeflate: false,
      maxPayload: limits.messageBytes,
      maxFragments: 1024,
      maxBufferedChunks: 4096,
    })
    return new Promise((resolve, reject) => {
      const unanswered = () => (socket?.bytesRead ?? 0) === 0
      const over = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', abort)
        ws.removeAllListeners()
        ws.on('error', () => {})
      }
      const fail = (why: string, options: ConstructorParameters<typeof DialError>[1] = {}) => {
        over()
        ws.terminate()
        socket?.destroy()
        reject(new DialError(`upstream ${entry.id} ${why}`, options))
      }
      const abort = () => fail('is not wanted any more')
      // One deadline for all: a handshake that trickles in is no handshake.
      const timer = setTimeout(
        () => fail('did not answer in time', { unanswered: unanswered(), timedOut: true }),
        limits.upstreamDialMs,
      )
      signal.addEventListener('abort', abort, { once: true })
      if (signal.aborted) abort()
      let subprotocol = ''
      let headers: HeaderPair[] = []
      ws.once('upgrade', (response) => {
        subprotocol = response.headers['sec-websocket-protocol'] ?? ''
        // A server may choose none of those offered; `ws` would take that for an error, and the client is to judge it.
        if (subprotocol === '' && offered.length > 0) response.headers['sec-websocket-protocol'] = offered[0]!
        headers = answerHeaders(response)
      })
      ws.once('unexpected-response', (_request, response) => {
        const { statusCode: status = null } = response
        fail(`answered the handshake with ${status}`, { status })
      })
      ws.once('error', (error: NodeJS.ErrnoException) =>
        fail(`failed: ${error.code ?? error.message}`, { unanswered: unanswered(), cause: error }),
      )
      ws.once('open', () => {
        if (answer !== null && subprotocol !== answer.subprotocol) {
          fail('does not speak the subprotocol that the client has')
          return
        }
        over()
        this.answer ??= { headers, subprotocol }
        resolve(new UpstreamWebSocket(ws, socket!, entry, listener, limits))
      })
    })
  }
}

/** A no is an answer: whoever may not connect, or asks for the wrong path, must not get an upstream ejected. */
function outcomeOf(error: unknown): UpstreamOutcome {
  if (!(error instanceof DialError)) return 'error-response'
  if (error.status !== null && error.status < 500) return 'ok'
  return error.unanswered ? 'connect-failed' : 'error-response'
}

function answerHeaders({ rawHeaders }: IncomingMessage): HeaderPair[] {
  return endToEnd(rawHeaders).filter(([name]) => !isHandshakeHeader(name.toLowerCase()))
}

/** No prototype, as `__proto__` is a name that clients may send. */
function joined(pairs: readonly HeaderPair[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.create(null)
  for (const [name, value] of pairs) {
    const lower = name.toLowerCase()
    const before = headers[lower]
    headers[lower] = before === undefined ? value : [before, value].flat()
  }
  return headers
}

function parseSubprotocols(header: string): string[] {
  const names = header.split(',').map((name) => name.trim())
  if (header.trim() === '') return []
  const valid = names.every((name) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name))
  if (valid && new Set(names).size === names.length) return names
  throw new EvenkeelError('BAD_REQUEST', 'Sec-WebSocket-Protocol must be different names, divided by commas')
}
