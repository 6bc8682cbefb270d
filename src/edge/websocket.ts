import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { isTokenSubprotocol, tokenSubprotocol } from '../core/identity/shown-token.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { NodeEntry } from '../gateway/node-entry.ts'
import { clientSubprotocol, helloBytes } from '../protocol/client-frames.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import type { Admission } from './admission/admission.ts'
import { ClientPings } from './client-pings.ts'
import { Deflater, type DeflateSettings } from './deflate.ts'
import { closeCodeOf, watchSender } from './identity/watch.ts'
import { cutSoon } from './last-words.ts'
import { checkNoBody, checkOrigin, requestMeta, shownBy } from './request-meta.ts'
import { ResumableWebSocketConnection } from './resumable-connection.ts'
import type { Target } from './target.ts'
import { TurnWriter } from './turn-writer.ts'
import type { Turnstile } from './turnstile.ts'
import { requestOf, v1Options } from './v1-conversation.ts'
import { ClientSocket, PlainConnection, type WebSocketConnection } from './websocket-connection.ts'

/** What the client's handshake is answered with. */
export interface Answer {
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** '' selects none. Absent: the first one offered. */
  readonly subprotocol?: string
}

export interface WebSocketEdgeOptions {
  gateway: Gateway
  admission: Admission
  turnstile: Turnstile
  /** null: messages are not compressed. */
  deflate: DeflateSettings | null
  /** An error that is ours, not the client's. */
  onError(error: unknown): void
}

const sweepMs = 1_000

/** Terminates WebSockets: one session for each. */
export class WebSocketEdge {
  private readonly options: WebSocketEdgeOptions
  private readonly plainServer: WebSocketServer
  private readonly resumableServer: WebSocketServer
  private readonly connections = new Set<WebSocketConnection>()
  private readonly writer: TurnWriter
  private readonly pings: ClientPings
  private readonly sweeper: NodeJS.Timeout
  /** Answers that are about to be written. */
  private readonly answers = new WeakMap<IncomingMessage, Answer>()
  private readonly deflater: Deflater | null
  /** Handshakes that were answered by compression. */
  private readonly deflating = new WeakSet<IncomingMessage>()
  private tick = 0

  constructor(options: WebSocketEdgeOptions) {
    this.options = options
    const { limits, turn } = options.gateway
    this.writer = new TurnWriter(turn)
    this.pings = new ClientPings(limits.pingsPerSecond)
    // The first subprotocol offered is the application's business; ours are told apart before.
    this.deflater = options.deflate === null ? null : new Deflater(options.deflate)
    const { deflater } = this
    this.plainServer = createServer(limits, limits.messageBytes, deflater, (offered, request) => {
      const { subprotocol } = this.answers.get(request) ?? {}
      const chosen = subprotocol ?? [...offered].find((name) => !isTokenSubprotocol(name))
      return chosen || (offered.has(tokenSubprotocol) ? tokenSubprotocol : false)
    })
    const frameBytes = Math.max(limits.messageBytes + 1, helloBytes)
    this.resumableServer = createServer(limits, frameBytes, deflater, () => clientSubprotocol)
    for (const server of [this.plainServer, this.resumableServer]) {
      server.on('headers', (lines, request) => {
        for (const [name, value] of this.answers.get(request)?.headers ?? []) lines.push(`${name}: ${value}`)
        if (deflater?.suits(lines)) this.deflating.add(request)
      })
    }
    this.sweeper = setInterval(() => this.sweep(), sweepMs)
  }

  get size(): number {
    return this.connections.size
  }

  /** Throws what the client is to be answered. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer, target: Target): Promise<void> {
    const { gateway } = this.options
    const { pool, settings, headers } = target
    checkNoBody(request)
    checkOrigin(request, settings.allowedOrigins)
    checkVersion(request)
    if (speaksOurs(request)) {
      if (gateway.stopping) await gateway.waitForNode(pool)
      if (headers.length > 0) this.answers.set(request, { headers })
      const chosen = this.choose(request, target)
      await this.open(this.resumableServer, request, socket, head, (ws) =>
        this.resumable(ws, socket, request, target, chosen),
      )
      return
    }
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (socket.destroyed) return
    if (headers.length > 0) this.answers.set(request, { headers })
    const chosen = this.choose(request, target)
    await this.open(this.plainServer, request, socket, head, (ws) =>
      this.plain(ws, socket, request, target, chosen),
    )
  }

  private async open(
    server: WebSocketServer,
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    open: (ws: ClientSocket) => void,
  ): Promise<void> {
    const { gateway, turnstile } = this.options
    let opened: Promise<void> | null = null
    socket.cork()
    server.handleUpgrade(request, socket, head, (ws) => {
      opened = turnstile.enterUpgraded(ws, socket, () => {
        if (gateway.stopping) part(ws, socket, CloseCode.serviceRestart, 'the gateway stops')
        else open(ws as ClientSocket)
      })
    })
    await opened
  }

  /** The answer tells the client its node, so that has to be known before. */
  private choose(request: IncomingMessage, { pool, key, persistence, headers }: Target): NodeEntry | null {
    if (persistence === null) return null
    const node = this.options.gateway.choose(pool, persistence.wish(request), shownBy(request, key))
    if (node !== null)
      this.answers.set(request, { headers: [...headers, ...persistence.headers(request, node.id)] })
    return node
  }

  /**
   * Answers a handshake that was checked with `checkHandshake`; `connected` gives the connection its session. Returns false when the
   * client has gone.
   */
  accept(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    answer: Answer,
    connected: (connection: PlainConnection, subprotocol: string) => void,
  ): boolean {
    let accepted = false
    this.answers.set(request, answer)
    this.plainServer.handleUpgrade(request, socket, head, (ws) => {
      accepted = true
      const connection = new PlainConnection(ws as ClientSocket, socket, this.writer, this.tick)
      this.connected(connection, request)
      connected(connection, ws.protocol)
    })
    return accepted
  }

  /** Answers the handshake of a client that is not let in, and closes: it hears a code where it would see no status. */
  refuse(request: IncomingMessage, socket: Socket, head: Buffer, error: EvenkeelError): void {
    const isOurs = (request.headers['sec-websocket-protocol'] ?? '').includes(clientSubprotocol)
    const server = isOurs ? this.resumableServer : this.plainServer
    server.handleUpgrade(request, socket, head, (ws) => part(ws, socket, closeCodeOf(error), error.message))
  }

  close(): void {
    clearInterval(this.sweeper)
  }

  terminate(): void {
    for (const { ws } of this.connections) ws.terminate()
  }

  private plain(
    ws: ClientSocket,
    socket: Socket,
    request: IncomingMessage,
    { pool, path, key }: Target,
    chosen: NodeEntry | null,
  ): void {
    const { gateway } = this.options
    const connection = new PlainConnection(ws, socket, this.writer, this.tick)
    this.connected(connection, request)
    const meta = requestMeta(request, 'websocket', ws.protocol, path)
    connection.session = gateway.openSession(pool, meta, connection, chosen, key)
  }

  private resumable(
    ws: ClientSocket,
    socket: Socket,
    request: IncomingMessage,
    target: Target,
    chosen: NodeEntry | null,
  ): void {
    const { gateway } = this.options
    const { pool, path, key } = target
    const meta = requestMeta(request, 'websocket', ws.protocol, path)
    const connection = new ResumableWebSocketConnection(ws, socket, this.writer, this.tick, {
      ...v1Options(this.options, target, request),
      onHello: (resume) => gateway.resumes.hello({ pool, meta, connection, chosen, key }, requestOf(resume)),
    })
    this.connected(connection, request)
  }

  private connected(connection: WebSocketConnection, request: IncomingMessage): void {
    const { ws } = connection
    connection.pace = this.options.admission.paceOf(request)
    connection.watch = watchSender(request, connection)
    if (this.deflating.has(request)) ws.deflater = this.deflater
    ws.connection = connection
    this.connections.add(connection)
    ws.on('message', this.onMessage)
    ws.on('pong', this.onSign)
    ws.on('ping', this.onSign)
    this.pings.watch(ws)
    ws.on('close', this.onClose)
    ws.on('error', ignore)
  }

  private readonly onMessage = edgeListener((edge, connection, data: RawData, isBinary: boolean) => {
    connection.lastSeen = edge.tick
    const { pace } = connection
    if (pace !== null && !connection.isUncounted(data as Buffer) && !pace.takes(connection)) return
    connection.received(data as Buffer, !isBinary)
  }, this)

  private readonly onSign = edgeListener((edge, connection) => {
    connection.lastSeen = edge.tick
  }, this)

  private readonly onClose = edgeListener((edge, connection, code: number, reason: Buffer) => {
    edge.connections.delete(connection)
    connection.watch?.stop()
    connection.ended()
    connection.session?.connectionClosed(connection, code, reason.toString())
  }, this)

  /** Pings who was silent, drops who stays so. */
  private sweep(): void {
    this.tick++
    const { idlePingMs, idlePongMs, handshakeMs } = this.options.gateway.limits
    const helloTicks = Math.max(1, Math.round(handshakeMs / sweepMs))
    const pingTicks = Math.max(1, Math.round(idlePingMs / sweepMs))
    const dropTicks = pingTicks + Math.max(1, Math.round(idlePongMs / sweepMs))
    for (const connection of this.connections) {
      if (connection.awaitsHello && this.tick - connection.connectedAt > helloTicks)
        connection.close(CloseCode.protocolViolation, 'no hello in time')
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

function part(ws: WebSocket, socket: Socket, code: number, reason: string): void {
  ws.on('error', ignore)
  ws.close(code, clipCloseReason(reason))
  cutSoon(socket)
}

function ignore(): void {}

/** What `ws` checks as well, but only once the answer is due. Throws BAD_REQUEST, METHOD_NOT_ALLOWED. */
export function checkHandshake(request: IncomingMessage): void {
  checkNoBody(request)
  checkVersion(request)
  if (request.method !== 'GET') throw new EvenkeelError('METHOD_NOT_ALLOWED', 'use GET')
  if (request.headers.upgrade?.toLowerCase() !== 'websocket')
    throw new EvenkeelError('BAD_REQUEST', 'Upgrade must be websocket')
  if (!/^[+/0-9A-Za-z]{22}==$/.test(request.headers['sec-websocket-key'] ?? ''))
    throw new EvenkeelError('BAD_REQUEST', 'Sec-WebSocket-Key must be 16 bytes in base64')
}

/** `ws` would take the drafts of version 8 as well. */
function checkVersion(request: IncomingMessage): void {
  if (request.headers['sec-websocket-version'] !== '13') {
    throw new EvenkeelError('BAD_REQUEST', 'Sec-WebSocket-Version must be 13')
  }
}

/** Throws BAD_REQUEST for a version that is not spoken here. */
function speaksOurs(request: IncomingMessage): boolean {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  const ours = offered.filter((name) => name.startsWith('evenkeel.') && !isTokenSubprotocol(name))
  if (ours.includes(clientSubprotocol)) return true
  if (ours.length === 0) return false
  throw new EvenkeelError(
    'BAD_REQUEST',
    `subprotocol ${ours[0]!.slice(0, 32)} is not spoken here; offer ${clientSubprotocol}, or none`,
  )
}

function createServer(
  { messageFragments, messageChunks }: Readonly<Limits>,
  maxPayload: number,
  deflater: Deflater | null,
  handleProtocols: (offered: Set<string>, request: IncomingMessage) => string | false,
): WebSocketServer {
  return new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: deflater?.options ?? false,
    maxPayload,
    autoPong: false,
    maxFragments: messageFragments,
    maxBufferedChunks: messageChunks,
    WebSocket: ClientSocket,
    handleProtocols,
  })
}
