import type { Socket as EngineSocket } from 'engine.io'
import type { WebSocket } from 'ws'
import type { ClientConnection, EncodedPacket, SharedMessages } from '../gateway/client-connection.ts'
import type { Session } from '../gateway/session.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import {
  decodeAttached,
  decodeNote,
  encodeNote,
  isNote,
  PacketAssembler,
  PacketType,
  packetHead,
} from '../protocol/socket-io-packet.ts'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'

/** Above this much that the client has not taken, it counts as slow. */
const highWaterBytes = 64 * 1024
/** A polling client cannot be stopped from sending; one that sends this many times what a session may keep is closed. */
const unreadWindows = 4
/** CONNECT packets kept for a node that has to begin anew; namespaces beyond are lost to their client then. */
const connectsKept = 256

/** One client's Engine.IO socket, whatever its transport is at the moment. */
export class SocketIoConnection implements ClientConnection {
  readonly transport = 'socket.io'
  session!: Session
  pendingBytes = 0
  private readonly socket: EngineSocket
  private readonly assembler: PacketAssembler
  private readonly unreadBytes: number
  /** By namespace: what a node needs that knows nothing of the session. */
  private readonly connects = new Map<string, string>()
  private slow = false
  private paused = false

  constructor(socket: EngineSocket, limits: { messageBytes: number; inboxBytes: number }) {
    this.socket = socket
    this.assembler = new PacketAssembler(limits.messageBytes)
    this.unreadBytes = limits.inboxBytes * unreadWindows
  }

  /** To be called when the connection has its session. */
  begin(): void {
    const { socket } = this
    socket.on('data', (piece: string | Buffer) => this.received(piece))
    socket.on('upgrade', () => {
      if (this.paused) this.websocket?.pause()
      this.session.receive(encodeNote({ transport: socket.transport.name }), false)
    })
    socket.on('close', (reason: string) =>
      this.session.connectionClosed(this, CloseCode.abnormal, clipCloseReason(reason)),
    )
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    if (!text && isNote(batch.subarray(start, end))) {
      this.noted(decodeNote(batch.subarray(start, end)))
      return true
    }
    const packet = text
      ? { header: batch.toString('utf8', start, end), attachments: [] }
      : decodeAttached(batch.subarray(start, end))
    this.follow(packet.header)
    this.write([packet.header, ...packet.attachments], end - start, null)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.socketIo ??= shared.messages.map(({ payload, text }) => encode(payload, text))
    for (const { pieces, bytes, frame } of shared.encoded.socketIo) this.write(pieces, bytes, frame)
  }

  takesVolatile(): boolean {
    const { transport, writeBuffer } = this.socket as unknown as EngineView
    const socket = this.websocket
    return socket === null ? transport.writable && writeBuffer.length === 0 : socket.bufferedAmount === 0
  }

  keepsUp(): boolean {
    if (this.pendingBytes <= highWaterBytes) return true
    this.slow = true
    return false
  }

  pause(): void {
    this.paused = true
    this.websocket?.pause()
  }

  resume(): void {
    this.paused = false
    this.websocket?.resume()
  }

  close(): void {
    // A paused socket would never read the client's answer.
    this.resume()
    this.socket.close()
  }

  terminate(): void {
    this.socket.close(true)
  }

  private get websocket(): WebSocket | null {
    const { transport } = this.socket
    return transport.name === 'websocket' ? (transport as unknown as { socket: WebSocket }).socket : null
  }

  private received(piece: string | Buffer): void {
    try {
      const packet = this.assembler.add(piece)
      if (packet === null) return
      const text = typeof packet === 'string'
      if (text) this.remember(packet)
      this.session.receive(text ? Buffer.from(packet) : packet, text)
      if (this.session.inbox.bytes > this.unreadBytes) this.socket.close()
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      // As a Socket.IO server does with what it cannot read.
      this.socket.close()
    }
  }

  /** A CONNECT or DISCONNECT of the client. */
  private remember(packet: string): void {
    if (packet[0] === String(PacketType.connect)) {
      const { namespace } = packetHead(packet)
      if (this.connects.size < connectsKept) this.connects.set(namespace, packet)
    } else if (packet[0] === String(PacketType.disconnect)) {
      this.connects.delete(packetHead(packet).namespace)
    }
  }

  /** A DISCONNECT or CONNECT_ERROR of the node. */
  private follow(packet: string): void {
    if (packet[0] !== String(PacketType.disconnect) && packet[0] !== String(PacketType.connectError)) return
    this.connects.delete(packetHead(packet).namespace)
  }

  private noted(note: Record<string, unknown>): void {
    if (note.replay !== true) return
    for (const packet of [...this.connects.values()]) this.session.receive(Buffer.from(packet), true)
  }

  private write(pieces: readonly (string | Buffer)[], bytes: number, frame: readonly Buffer[] | null): void {
    this.pendingBytes += bytes
    const taken = () => {
      this.pendingBytes -= bytes
      if (!this.slow || this.pendingBytes > highWaterBytes / 2) return
      this.slow = false
      this.session.connectionDrained()
    }
    const last = pieces.length - 1
    pieces.forEach((piece, i) => {
      const options = frame === null ? {} : { wsPreEncodedFrame: frame }
      this.socket.write(piece, options as object, i === last ? taken : undefined)
    })
  }
}

/** What Engine.IO puts before a text message. */
const engineMessage = Buffer.from('4')

/** What engine.io does not declare as public and socket.io uses all the same. */
interface EngineView {
  transport: { writable: boolean }
  writeBuffer: readonly unknown[]
}

function encode(payload: Buffer, text: boolean): EncodedPacket {
  const bytes = payload.length
  if (!text) {
    const { header, attachments } = decodeAttached(payload)
    return { pieces: [header, ...attachments], bytes, frame: null }
  }
  const header = Buffer.alloc(frameHeaderBytesMax)
  const headerStart = writeFrameHeader(header, header.length, 1 + bytes, Opcode.text, false)
  const frame = Buffer.concat([header.subarray(headerStart), engineMessage, payload])
  return { pieces: [payload.toString()], bytes, frame: [frame] }
}
