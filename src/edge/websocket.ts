import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import type { ClientConnection, SharedMessages } from '../gateway/client-connection.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { Session } from '../gateway/session.ts'
import { isSendableCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import { type AllowedOrigins, checkNoBody, checkOrigin, requestMeta } from './request-meta.ts'
import { Outgoing, TurnWriter } from './turn-writer.ts'

export interface WebSocketEdgeOptions {
  gateway: Gateway
  pool: string
  allowedOrigins: AllowedOrigins
}

const header = Buffer.alloc(frameHeaderBytesMax)

/** The socket carries its connection, so that one set of listeners serves all. */
class ClientSocket extends WebSocket {
  connection!: WebSocketConnection
}

class WebSocketConnection implements ClientConnection {
  readonly transport = 'websocket'
  readonly ws: ClientSocket
  session!: Session
  /** Ticks of the edge's clock. */
  lastSeen: number
  pinged = false
  private awaitsDrain = false
  private readonly out: Outgoing
  private readonly writer: TurnWriter

  constructor(ws: ClientSocket, socket: Socket, writer: TurnWriter, tick: number) {
    this.ws = ws
    this.out = new Outgoing(socket)
    this.writer = writer
    this.lastSeen = tick
  }

  get pendingBytes(): number {
    return this.out.socket.writableLength + this.out.bytes
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    if (this.ws.readyState !== WebSocket.OPEN) return true
    this.writer.write(this.out, header, writeHeader(end - start, text), batch, start, end)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    if (this.ws.readyState !== WebSocket.OPEN) return
    shared.encoded.websocket ??= encodeFrames(shared)
    this.writer.append(this.out, shared.encoded.websocket)
  }

  keepsUp(): boolean {
    const { socket } = this.out
    if (!socket.writableNeedDrain) return true
    if (!this.awaitsDrain) {
      this.awaitsDrain = true
      socket.once('drain', () => {
        this.awaitsDrain = false
        this.session.connectionDrained()
      })
    }
    return false
  }

  pause(): void {
    this.ws.pause()
  }

  resume(): void {
    this.ws.resume()
  }

  close(code: number, reason: string): void {
    if (this.ws.readyState !== WebSocket.OPEN) return
    if (this.out.waiting) this.out.flush()
    // A paused socket would never read the client's answer.
    this.ws.resume()
    if (isSendableCloseCode(code)) this.ws.close(code, reason)
    else this.ws.close()
  }
}

/** Writes a header to the end of `header` and returns where it begins. */
function writeHeader(bytes: number, text: boolean): number {
  return writeFrameHeader(header, header.length, bytes, text ? Opcode.text : Opcode.binary, false)
}

/** All messages in one piece: a member of the channel costs one reference and one write. */
function encodeFrames({ messages }: SharedMessages): Buffer {
  const pieces: Buffer[] = []
  for (const { payload, text } of messages) {
    pieces.push(Buffer.from(header.subarray(writeHeader(payload.length, text))), payload)
  }
  return Buffer.concat(pieces)
}

const sweepMs = 1_000

/** Terminates WebSockets: one session for each. */
export class WebSocketEdge {
  private readonly options: WebSocketEdgeOptions
  private readonly server: WebSocketServer
  private readonly connections = new Set<WebSocketConnection>()
  private readonly writer: TurnWriter
  private readonly sweeper: NodeJS.Timeout
  private tick = 0

  constructor(options: WebSocketEdgeOptions) {
    this.options = options
    const { limits, turn } = options.gateway
    this.writer = new TurnWriter(turn)
    this.server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: limits.messageBytes,
      maxFragments: 1024,
      maxBufferedChunks: 4096,
      WebSocket: ClientSocket,
      // The first one offered is the application's business; ours are refused before.
      handleProtocols: (offered) => offered.values().next().value ?? false,
    })
    this.sweeper = setInterval(() => this.sweep(), sweepMs)
  }

  get size(): number {
    return this.connections.size
  }

  /** Throws what the client is to be answered. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const { gateway, pool, allowedOrigins } = this.options
    checkNoBody(request)
    checkOrigin(request, allowedOrigins)
    checkVersion(request)
    checkSubprotocols(request)
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (socket.destroyed) return
    this.server.handleUpgrade(request, socket, head, (ws) =>
      this.connected(ws as ClientSocket, socket, request),
    )
  }

  close(): void {
    clearInterval(this.sweeper)
  }

  terminate(): void {
    for (const { ws } of this.connections) ws.terminate()
  }

  private connected(ws: ClientSocket, socket: Socket, request: IncomingMessage): void {
    const connection = new WebSocketConnection(ws, socket, this.writer, this.tick)
    ws.connection = connection
    this.connections.add(connection)
    ws.on('message', this.onMessage)
    ws.on('pong', this.onPong)
    ws.on('close', this.onClose)
    ws.on('error', ignore)
    const meta = requestMeta(request, 'websocket', ws.protocol)
    connection.session = this.options.gateway.openSession(this.options.pool, meta, connection)
  }

  private readonly onMessage = edgeListener((edge, connection, data: RawData, isBinary: boolean) => {
    connection.lastSeen = edge.tick
    connection.session.receive(data as Buffer, !isBinary)
  }, this)

  private readonly onPong = edgeListener((edge, connection) => {
    connection.lastSeen = edge.tick
  }, this)

  private readonly onClose = edgeListener((edge, connection, code: number, reason: Buffer) => {
    edge.connections.delete(connection)
    connection.session.connectionClosed(code, reason.toString())
  }, this)

  /** Pings who was silent, drops who stays so. */
  private sweep(): void {
    this.tick++
    const { idlePingMs, idlePongMs } = this.options.gateway.limits
    const pingTicks = Math.max(1, Math.round(idlePingMs / sweepMs))
    const dropTicks = pingTicks + Math.max(1, Math.round(idlePongMs / sweepMs))
    for (const connection of this.connections) {
      // Who is not read cannot be heard.
      if (connection.ws.isPaused) connection.lastSeen = this.tick
      const silent = this.tick - connection.lastSeen
      if (silent < pingTicks) connection.pinged = false
      else if (silent >= dropTicks) connection.ws.terminate()
      else if (!connection.pinged && connection.ws.readyState === WebSocket.OPEN) {
        connection.pinged = true
        connection.ws.ping()
      }
    }
  }
}

function edgeListener<A extends unknown[]>(
  listener: (edge: WebSocketEdge, connection: WebSocketConnection, ...args: A) => void,
  edge: WebSocketEdge,
): (this: WebSocket, ...args: A) => void {
  return function (this: WebSocket, ...args: A) {
    listener(edge, (this as ClientSocket).connection, ...args)
  }
}

function ignore(): void {}

/** `ws` would take the drafts of version 8 as well. */
function checkVersion(request: IncomingMessage): void {
  if (request.headers['sec-websocket-version'] !== '13') {
    throw new EvenkeelError('BAD_REQUEST', 'Sec-WebSocket-Version must be 13')
  }
}

function checkSubprotocols(request: IncomingMessage): void {
  const offered = request.headers['sec-websocket-protocol'] ?? ''
  const ours = offered.split(',').find((name) => name.trim().startsWith('evenkeel.'))
  if (ours !== undefined) {
    throw new EvenkeelError(
      'BAD_REQUEST',
      `subprotocol ${ours.trim().slice(0, 32)} is not spoken here; connect without one`,
    )
  }
}
