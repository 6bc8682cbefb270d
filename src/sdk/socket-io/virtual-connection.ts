import { EventEmitter } from 'node:events'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import {
  decodeAttached,
  PacketAssembler,
  type PacketHead,
  PacketType,
  packetHead,
} from '../../protocol/socket-io-packet.ts'
import type { NodeSession } from '../session.ts'
import type { SessionMeta } from '../types.ts'
import type { Import } from './imports.ts'
import type { SocketView } from './views.ts'

/**
 * shadow: prepared, the session is not here yet. handed: exported, and not yet released. ghost: the session lives elsewhere, and
 * handlers that still run here may speak for a while.
 */
export type ConnectionPhase = 'shadow' | 'open' | 'handed' | 'ghost' | 'closed'

/** A gateway would close the link for a longer one. */
const scopeLength = 255

export interface ConnectionHost {
  /** Socket.IO wants the connection closed. */
  closing(connection: VirtualConnection): void
  /** What the client knows of its namespaces has changed. */
  changed(connection: VirtualConnection): void
}

/** A client as Socket.IO sees it: what it uses of a socket of engine.io. */
export class VirtualConnection extends EventEmitter {
  readonly id: string
  readonly request: IncomingMessage
  readonly remoteAddress: string
  readonly protocol = 4
  readonly writeBuffer: unknown[] = []
  readonly server: unknown
  readonly transport: EventEmitter & { name: string; writable: boolean }
  readyState: 'open' | 'closing' | 'closed' = 'open'
  upgraded: boolean

  readonly session: NodeSession
  phase: ConnectionPhase
  /** By namespace, as far as they are connected. */
  readonly sockets = new Map<string, SocketView>()
  /** Ids by namespace, from before they are connected. */
  readonly ids = new Map<string, string>()
  readonly imports = new Map<string, Import>()
  /** Namespaces whose CONNECT is not answered. */
  readonly connecting = new Set<string>()
  /** The client need not be told that it is connected: it is. */
  swallowConnect = false
  /** Events of the client that wait for their acknowledgement. */
  openAcks = 0
  /** The state will be saved, in so many milliseconds from when it was asked for. */
  saving: { timer: NodeJS.Timeout; ms: number } | null = null
  private readonly host: ConnectionHost
  private readonly assembler: PacketAssembler
  private waiting: { message: string | Buffer; isVolatile: boolean }[] = []

  constructor(session: NodeSession, phase: ConnectionPhase, server: unknown, host: ConnectionHost) {
    super()
    this.setMaxListeners(0)
    this.session = session
    this.phase = phase
    this.server = server
    this.host = host
    this.id = session.id
    this.assembler = new PacketAssembler(session.host.messageBytes)
    this.request = requestOf(session.meta)
    this.remoteAddress = session.meta.address
    const name = new URLSearchParams(session.meta.query).get('transport') ?? 'websocket'
    this.upgraded = name !== 'polling'
    // What is volatile is decided where the client's socket is.
    this.transport = Object.assign(new EventEmitter(), { name, writable: true })
  }

  /** In no namespace, nor about to be. */
  get isNowhere(): boolean {
    return this.sockets.size + this.connecting.size + this.imports.size === 0
  }

  /** As `write` of engine.io. Throws TOO_LARGE above the message limit. */
  write(data: string | Buffer, options: { volatile?: boolean } = {}, sent?: () => void): this {
    if (this.readyState !== 'open') return this
    const message = this.assembler.add(data)
    if (message !== null) this.send(message, options.volatile === true)
    if (sent !== undefined) process.nextTick(sent)
    return this
  }

  send(message: string | Buffer, isVolatile: boolean): void {
    if (typeof message === 'string' && !this.mayLeave(message)) return
    const type = messageHeader(message).charCodeAt(0) - 0x30
    if (type === PacketType.ack || type === PacketType.binaryAck)
      this.openAcks = Math.max(0, this.openAcks - 1)
    if (this.phase === 'shadow') this.waiting.push({ message, isVolatile })
    else if (this.phase !== 'closed') this.session.send(message, { volatile: isVolatile })
  }

  /** Gives Socket.IO a packet of the client. */
  receive(message: string | Buffer, { type, namespace, ack }: PacketHead): void {
    if (type === PacketType.connect) {
      // It comes again when the node that was to answer it died. Socket.IO would close the client.
      if (this.sockets.has(namespace) || this.connecting.has(namespace)) return
      if (namespace.length > scopeLength) {
        this.session.send(`${PacketType.connectError}${namespace},{"message":"Invalid namespace"}`)
        return
      }
      this.connecting.add(namespace)
    } else if (!this.sockets.has(namespace) && this.phase !== 'open') {
      return
    }
    if (ack !== null && (type === PacketType.event || type === PacketType.binaryEvent)) this.openAcks++
    this.feed(message)
  }

  feed(message: string | Buffer): void {
    const pieces = typeof message === 'string' ? [message] : piecesOf(message)
    for (const piece of pieces) {
      this.emit('packet', { type: 'message', data: piece })
      this.emit('data', piece)
      this.emit('message', piece)
    }
  }

  /** The session is here. */
  opened(): void {
    this.phase = 'open'
    const { waiting } = this
    this.waiting = []
    for (const { message, isVolatile } of waiting) this.session.send(message, { volatile: isVolatile })
  }

  upgradedTo(transport: string): void {
    this.transport.name = transport
    this.upgraded = true
    this.emit('upgrade', this.transport)
  }

  /** As `close` of engine.io. */
  close(): void {
    if (this.readyState !== 'open') return
    if (this.phase === 'open') this.readyState = 'closing'
    this.host.closing(this)
  }

  /** The connection is over for Socket.IO. */
  end(reason: string): void {
    if (this.phase === 'closed') return
    // Before `close`: rooms are left by its listeners, and here alone.
    this.phase = 'closed'
    this.readyState = 'closed'
    if (this.saving !== null) clearTimeout(this.saving.timer)
    this.emit('close', reason)
    this.removeAllListeners()
  }

  /** Follows what the node says of namespaces. Returns false for what the client is not to get. */
  private mayLeave(packet: string): boolean {
    const type = packet.charCodeAt(0) - 0x30
    if (type !== PacketType.connect && type !== PacketType.connectError) return true
    const { namespace } = packetHead(packet)
    this.connecting.delete(namespace)
    if (type === PacketType.connectError) {
      const pending = this.imports.get(namespace)
      if (pending === undefined) return true
      pending.rejected(new Error(`namespace ${namespace} did not let the client in`))
      return false
    }
    if (this.swallowConnect) {
      this.swallowConnect = false
      return false
    }
    this.host.changed(this)
    return true
  }
}

export function messageHeader(message: string | Buffer): string {
  return typeof message === 'string' ? message : decodeAttached(message).header
}

function piecesOf(message: Buffer): (string | Buffer)[] {
  const { header, attachments } = decodeAttached(message)
  return [header, ...attachments]
}

/** The request as the gateway saw it. */
function requestOf({ address, path, query, headers }: SessionMeta): IncomingMessage {
  // Never connected: it gives `request.connection` and `request.socket`, with the client's address.
  const socket = new Socket()
  Object.defineProperty(socket, 'remoteAddress', { value: address })
  const request = new IncomingMessage(socket)
  request.method = 'GET'
  request.url = query === '' ? path : `${path}?${query}`
  request.headers = headers
  request.rawHeaders = Object.entries(headers).flat()
  return Object.assign(request, { _query: Object.fromEntries(new URLSearchParams(query)) })
}
