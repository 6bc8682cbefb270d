import type { IncomingMessage } from 'node:http'
import { type Duplex, Stream } from 'node:stream'
import { Server, type ServerOptions, type Transport } from 'engine.io'
import { WebSocket, WebSocketServer } from 'ws'
import type { Turn } from '../gateway/turn.ts'
import type { Limits } from '../protocol/limits.ts'
import { ClientPings } from './client-pings.ts'
import type { Turnstile } from './turnstile.ts'

/** Between two packets of a payload (Engine.IO 4). */
const separator = '\x1e'

/** What engine.io does not declare as public. */
interface TransportView {
  onData(data: string | Buffer): void
  onError(message: string): void
}

export interface GuardOptions {
  limits: Readonly<Limits>
  turnstile: Turnstile
  turn: Turn
}

/** engine.io with the bounds that it has no options for. */
export class GuardedEngine extends Server {
  private readonly limits: Readonly<Limits>

  constructor(guard: GuardOptions, options: ServerOptions) {
    super({ ...options, wsEngine: guardedWebSocketServer(guard) as never })
    this.limits = guard.limits
  }

  /** The only one is CORS, which nobody asks for a WebSocket: what its answer is kept in is no stream. */
  protected override _applyMiddlewares(
    ...[request, response, callback]: Parameters<Server['_applyMiddlewares']>
  ): void {
    if (response instanceof Stream) super._applyMiddlewares(request, response, callback)
    else callback()
  }

  override createTransport(name: string, request: IncomingMessage): Transport {
    const transport: Transport = super.createTransport(name as never, request as never)
    if (name === 'polling') this.boundPackets(transport as unknown as TransportView, request)
    return transport
  }

  /** A megabyte of empty packets is half a million messages, and engine.io makes an object of each before anybody sees the first. */
  private boundPackets(transport: TransportView, { url = '' }: IncomingMessage): void {
    const { onData } = transport
    const isEncoded = new URLSearchParams(url.slice(url.indexOf('?') + 1)).has('j')
    transport.onData = (data) => {
      const text = String(data)
      const separators = isEncoded ? [separator, '%1e', '%1E'] : [separator]
      if (occurs(text, separators, this.limits.pollPackets)) transport.onError('too many packets')
      else onData.call(transport, data)
    }
  }
}

function guardedWebSocketServer({ limits, turnstile, turn }: GuardOptions) {
  const { messageFragments, messageChunks, pingsPerSecond } = limits
  const pings = new ClientPings(pingsPerSecond)
  return class extends WebSocketServer {
    constructor(options: ConstructorParameters<typeof WebSocketServer>[0]) {
      super({
        ...options,
        WebSocket: guardedSocket(turn),
        autoPong: false,
        maxFragments: messageFragments,
        maxBufferedChunks: messageChunks,
      })
    }

    override handleUpgrade(
      request: IncomingMessage,
      socket: Duplex,
      head: Buffer,
      done: (ws: WebSocket, request: IncomingMessage) => void,
    ): void {
      socket.cork()
      super.handleUpgrade(request, socket, head, (ws, answered) => {
        pings.watch(ws as WebSocket)
        void turnstile.enterUpgraded(ws as WebSocket, socket, () => done(ws as WebSocket, answered))
      })
    }
  }
}

/** What engine.io does when a client breaks the protocol is work of a turn of its own: finding it out was enough for one. */
function guardedSocket(turn: Turn) {
  return class extends WebSocket {
    override emit(event: string | symbol, ...values: unknown[]): boolean {
      if (event !== 'error') return super.emit(event, ...values)
      // Nobody listens any more to one that has closed meanwhile; an error that nobody hears would end the process.
      turn.next(() => this.listenerCount(event) > 0 && super.emit(event, ...values))
      return true
    }
  }
}

/** Whether these occur so many times: the rest of a text that is refused is not looked at. */
function occurs(text: string, separators: readonly string[], times: number): boolean {
  let found = 0
  for (const one of separators)
    for (let at = text.indexOf(one); at !== -1; at = text.indexOf(one, at + one.length))
      if (++found === times) return true
  return false
}
