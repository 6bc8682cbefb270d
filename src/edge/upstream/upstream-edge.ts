import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Gateway } from '../../gateway/gateway.ts'
import { DialError } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { UpstreamLine } from '../../gateway/upstream-line.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { checkOrigin, requestMeta, shownBy } from '../request-meta.ts'
import type { Target } from '../target.ts'
import { checkHandshake, type WebSocketEdge } from '../websocket.ts'
import { WebSocketDial } from './dial.ts'
import { failure, HttpProxy, triesMax } from './http-proxy.ts'
import { openEventSession } from './sse.ts'
import type { UpstreamWebSocket } from './websocket-upstream.ts'

export interface UpstreamEdgeOptions {
  readonly gateway: Gateway
  /** Answers clients of the WebSockets that upstreams have taken. */
  readonly websocket: WebSocketEdge
}

const sweepMs = 1_000

/** Serves routes that lead to upstreams: WebSockets and streams of events become sessions, all else is passed through. */
export class UpstreamEdge {
  private readonly options: UpstreamEdgeOptions
  private readonly proxy: HttpProxy
  private readonly connections = new Set<UpstreamWebSocket>()
  private readonly sweeper: NodeJS.Timeout

  constructor(options: UpstreamEdgeOptions) {
    this.options = options
    const { gateway } = options
    this.proxy = new HttpProxy({
      gateway,
      stream: (request, answered, client, response) =>
        openEventSession(gateway, this.proxy.pools, request, answered, client, response),
    })
    this.sweeper = setInterval(() => this.sweep(), sweepMs)
  }

  /** Throws what the client is to be answered. */
  async request(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    await this.proxy.request(request, response, target)
  }

  /** The upstream is asked first: a client whose upstream refuses is refused itself. Throws what the client is to be answered. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer, target: Target): Promise<void> {
    const { pool, key, persistence, settings } = target
    const { gateway, websocket } = this.options
    checkHandshake(request)
    checkOrigin(request, settings.allowedOrigins)
    const dial = new WebSocketDial(request, gateway.limits, (connection) => this.opened(connection))
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    const line = await this.dial(request, target, dial)
    if (gateway.stopping) {
      line.terminate()
      throw new EvenkeelError('DRAINING', 'the gateway stops; try again, another one will answer')
    }
    const { headers, subprotocol } = dial.answer!
    const naming = persistence?.headers(request, line.entry.id) ?? []
    const answer = { headers: [...headers, ...target.headers, ...naming], subprotocol }
    let accepted = false
    try {
      accepted = websocket.accept(request, socket, head, answer, (connection) => {
        const meta = requestMeta(request, 'websocket', subprotocol)
        const session = gateway.upstreams!.openSession(pool, meta, connection, dial, key)
        connection.session = session
        session.begin(line)
      })
    } finally {
      if (!accepted) line.terminate()
    }
  }

  /** Requests from now on go over connections that are made by the new limits; those under way go on. */
  limitsChanged(): void {
    this.proxy.pools.forget(() => true)
  }

  close(): void {
    clearInterval(this.sweeper)
    this.proxy.pools.close()
    for (const connection of this.connections) connection.terminate()
  }

  private async dial(
    request: IncomingMessage,
    { pool, key, persistence }: Target,
    dial: WebSocketDial,
  ): Promise<UpstreamLine> {
    const { gateway } = this.options
    const wish = persistence?.wish(request) ?? null
    const shown = shownBy(request, key)
    const tried = new Set<UpstreamEntry>()
    let last: unknown
    while (tried.size < triesMax) {
      const entry = gateway.choose(pool, wish, shown, tried) as UpstreamEntry | null
      if (entry === null) break
      tried.add(entry)
      const line = new UpstreamLine(entry)
      entry.dialling++
      const askedAt = gateway.now()
      try {
        await line.open(dial)
        entry.answered(gateway.now() - askedAt, gateway.now())
        return line
      } catch (error) {
        last = error
        if (!(error instanceof DialError && error.unanswered)) break
      } finally {
        entry.dialling--
      }
    }
    if (last === undefined)
      throw new EvenkeelError('NO_NODE', 'no server can take a session now; try again later')
    // Whatever went wrong, an upgrade that was not made is a bad gateway.
    throw new EvenkeelError('BAD_GATEWAY', failure(last).message, { cause: last })
  }

  private opened(connection: UpstreamWebSocket): void {
    this.connections.add(connection)
    connection.onEnd = () => this.connections.delete(connection)
  }

  /** Finds upstreams that have gone without a word. */
  private sweep(): void {
    const { gateway } = this.options
    const { idlePingMs, idlePongMs } = gateway.limits
    for (const connection of this.connections) connection.watch(sweepMs, idlePingMs, idlePongMs)
    this.proxy.pools.forget((entry) => gateway.nodes.get(entry.id) !== entry && entry.pending === 0)
  }
}
