import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Socket as EngineSocket, Server } from 'engine.io'
import type { Gateway } from '../gateway/gateway.ts'
import { type AllowedOrigins, checkNoBody, checkOrigin, requestMeta, splitTarget } from './request-meta.ts'
import { SocketIoConnection } from './socket-io-connection.ts'

export interface SocketIoEdgeOptions {
  gateway: Gateway
  pool: string
  allowedOrigins: AllowedOrigins
}

/** Terminates Engine.IO: polling, WebSocket, upgrades, heartbeats. One session for each socket. */
export class SocketIoEdge {
  private readonly options: SocketIoEdgeOptions
  private readonly engine: Server
  private readonly connections = new Set<SocketIoConnection>()

  constructor(options: SocketIoEdgeOptions) {
    this.options = options
    const { limits, id } = options.gateway
    this.engine = new Server({
      transports: ['polling', 'websocket'],
      pingInterval: limits.idlePingMs,
      pingTimeout: limits.idlePongMs,
      upgradeTimeout: limits.handshakeMs,
      maxHttpBufferSize: limits.messageBytes,
      perMessageDeflate: false,
      httpCompression: false,
      // Who may come is decided before; this only says so to browsers.
      cors: { origin: true, credentials: true },
    })
    const owner = ownerTag(id)
    this.engine.generateId = () => `${owner}.${randomBytes(18).toString('base64url')}`
    this.engine.on('connection', (socket: EngineSocket) => this.connected(socket))
  }

  /** A request to `/socket.io/`. Throws what the client is to be answered. */
  async request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    checkOrigin(request, this.options.allowedOrigins)
    await this.admit(request)
    if (!response.destroyed) this.engine.handleRequest(request as never, response)
  }

  /** Throws what the client is to be answered. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    checkNoBody(request)
    checkOrigin(request, this.options.allowedOrigins)
    await this.admit(request)
    if (!socket.destroyed) this.engine.handleUpgrade(request as never, socket, head)
  }

  close(): void {
    for (const connection of this.connections) connection.terminate()
    this.engine.close()
  }

  /** Who is new needs a node. Throws NO_NODE, DRAINING. */
  private async admit({ method, url = '' }: IncomingMessage): Promise<void> {
    const { gateway, pool } = this.options
    const isNew = method === 'GET' && !new URLSearchParams(splitTarget(url)[1]).has('sid')
    if (isNew && !gateway.canAssign(pool)) await gateway.waitForNode(pool)
  }

  private connected(socket: EngineSocket): void {
    const { gateway, pool } = this.options
    const connection = new SocketIoConnection(socket, gateway.limits)
    this.connections.add(connection)
    socket.on('close', () => this.connections.delete(connection))
    const meta = requestMeta(socket.request as unknown as IncomingMessage, 'socket.io', '')
    connection.session = gateway.openSession(pool, meta, connection)
    connection.begin()
  }
}

/** Which gateway a `sid` belongs to; the id itself is nobody else's business. */
export function ownerTag(gatewayId: string): string {
  return createHash('sha256').update(gatewayId).digest('base64url').slice(0, 8)
}
