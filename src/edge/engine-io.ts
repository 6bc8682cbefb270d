import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Socket as EngineSocket, Server } from 'engine.io'
import type { Gateway } from '../gateway/gateway.ts'
import { randomText } from '../gateway/random-text.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Admission } from './admission/admission.ts'
import {
  type EngineConnection,
  type EngineConnectionHost,
  PlainEngineConnection,
} from './engine-io-connection.ts'
import { EngineIoForwarder, ownerTag, restoreForwarded } from './engine-io-forward.ts'
import { GuardedEngine } from './engine-io-guard.ts'
import { watchSender } from './identity/watch.ts'
import { checkNoBody, checkOrigin, requestMeta, splitTarget } from './request-meta.ts'
import { SocketIoConnection } from './socket-io-connection.ts'
import type { Target } from './target.ts'
import { TurnWriter } from './turn-writer.ts'
import type { Turnstile } from './turnstile.ts'

export interface EngineIoEdgeOptions {
  gateway: Gateway
  admission: Admission
  turnstile: Turnstile
  /** What the gateways of the cluster know each other by; null: they are on one machine. */
  peerToken: string | null
}

/** Where engine.io looks for the query of a request first. */
interface QueryHolder {
  _query?: Record<string, string>
}

/** What the clients of an edge send: Socket.IO packets, or messages of their own. */
export type EngineDialect = 'socket.io' | 'engine.io'

/** Terminates Engine.IO: polling, WebSocket, upgrades, heartbeats. One session for each socket. */
export class EngineIoEdge {
  private readonly dialect: EngineDialect
  private readonly options: EngineIoEdgeOptions
  private readonly engine: Server
  private readonly forwarder: EngineIoForwarder
  private readonly host: EngineConnectionHost
  private readonly connections = new Set<EngineConnection>()
  /** Of those who are about to connect. */
  private readonly targets = new WeakMap<object, Target>()

  constructor(dialect: EngineDialect, options: EngineIoEdgeOptions) {
    this.dialect = dialect
    this.options = options
    const { limits, id, turn } = options.gateway
    this.host = { limits, turn, writer: new TurnWriter(turn) }
    this.forwarder = new EngineIoForwarder(options.gateway, options.peerToken)
    this.engine = new GuardedEngine(
      { limits, turn, turnstile: options.turnstile },
      {
        transports: ['polling', 'websocket'],
        pingInterval: limits.idlePingMs,
        pingTimeout: limits.idlePongMs,
        upgradeTimeout: limits.handshakeMs,
        maxHttpBufferSize: limits.messageBytes,
        perMessageDeflate: false,
        httpCompression: false,
        // Who may come is decided before; this only says so to browsers.
        cors: { origin: true, credentials: true },
      },
    )
    const owner = ownerTag(id)
    this.engine.generateId = () => `${owner}.${randomText(18)}`
    this.engine.on('initial_headers', (headers: Record<string, string>, request: object) =>
      Object.assign(headers, Object.fromEntries(this.targets.get(request)?.headers ?? [])),
    )
    this.engine.on('connection', (socket: EngineSocket) => this.connected(socket))
  }

  /** A request to `/socket.io/` or `/engine.io/`. Throws what the client is to be answered. */
  async request(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    checkOrigin(request, target.settings.allowedOrigins)
    const owner = await this.ownerOf(request)
    if (response.destroyed) return
    if (owner !== null) {
      this.forwarder.request(owner, request, response)
      return
    }
    await this.admit(request, target)
    if (!response.destroyed) this.engine.handleRequest(request as never, response)
  }

  /** Throws what the client is to be answered. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer, target: Target): Promise<void> {
    checkNoBody(request)
    checkOrigin(request, target.settings.allowedOrigins)
    const owner = await this.ownerOf(request)
    if (socket.destroyed) return
    if (owner !== null) {
      this.forwarder.upgrade(owner, request, socket, head)
      return
    }
    await this.admit(request, target)
    if (!socket.destroyed) this.engine.handleUpgrade(request as never, socket, head)
  }

  /** A request that another gateway has checked and sent here. It is not sent on, whoever has the session. */
  forwarded(request: IncomingMessage, response: ServerResponse): void {
    restoreForwarded(request)
    this.engine.handleRequest(request as never, response)
  }

  forwardedUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    restoreForwarded(request)
    this.engine.handleUpgrade(request as never, socket, head)
  }

  close(): void {
    this.forwarder.close()
    for (const connection of this.connections) connection.terminate()
    this.engine.close()
  }

  private async ownerOf(request: IncomingMessage): Promise<URL | null> {
    const { sid } = readQuery(request)
    return sid ? this.forwarder.ownerOf(sid) : null
  }

  /** Who is new needs a node. Throws NO_NODE, DRAINING. */
  private async admit(request: IncomingMessage & QueryHolder, target: Target): Promise<void> {
    const { gateway } = this.options
    if (request.method !== 'GET' || request._query?.sid) return
    const { pool } = target
    this.targets.set(request, target)
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
  }

  private async connected(socket: EngineSocket): Promise<void> {
    const { gateway, turnstile } = this.options
    // Who polls may send before it has its turn.
    if (socket.transport.name === 'websocket') await turnstile.enter()
    const request = socket.request as unknown as IncomingMessage
    const target = this.targets.get(request)
    if (socket.readyState !== 'open') return
    if (target === undefined || gateway.stopping) {
      // Nobody has let it in, or it comes too late.
      socket.close(true)
      return
    }
    const Connection = this.dialect === 'socket.io' ? SocketIoConnection : PlainEngineConnection
    const connection = new Connection(socket, this.host)
    this.connections.add(connection)
    const watch = watchSender(request, {
      // Engine.IO has no codes; its client comes back, and shows its token anew.
      over: (code, reason) => connection.session.dismiss(code, reason),
    })
    const left = this.options.admission.outlives(request)
    socket.on('close', () => {
      left()
      this.connections.delete(connection)
      watch?.stop()
    })
    const { pool, path, key } = target
    const meta = requestMeta(request, this.dialect, '', path)
    connection.pace = this.options.admission.paceOf(request)
    connection.session = gateway.openSession(pool, meta, connection, null, key)
    connection.begin()
  }
}

/** Reads it for engine.io too, which would make a URL of it. Throws BAD_REQUEST for what could be read in two ways. */
function readQuery(request: IncomingMessage & QueryHolder): Record<string, string> {
  const pairs = new URLSearchParams(splitTarget(request.url ?? '')[1])
  if (pairs.getAll('sid').length > 1) throw new EvenkeelError('BAD_REQUEST', 'one sid at most')
  request._query = Object.fromEntries(pairs)
  return request._query
}
