import type { Socket as EngineSocket } from 'engine.io'
import type { EncodedPacket, SharedMessages } from '../gateway/client-connection.ts'
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
import { EngineConnection, type EngineConnectionHost, encodeText } from './engine-io-connection.ts'

/** CONNECT packets kept for a node that has to begin anew; namespaces beyond are lost to their client then. */
const connectsKept = 256

/** A client whose messages are Socket.IO packets; each is one message of its session, attachments and all. */
export class SocketIoConnection extends EngineConnection {
  readonly transport = 'socket.io'
  private readonly assembler: PacketAssembler
  /** By namespace: what a node needs that knows nothing of the session. */
  private readonly connects = new Map<string, string>()

  constructor(socket: EngineSocket, host: EngineConnectionHost) {
    super(socket, host)
    this.assembler = new PacketAssembler(host.limits.messageBytes)
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
    this.write([packet.header, ...packet.attachments], end - start)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.socketIo ??= shared.messages.map(({ payload, text }) => encode(payload, text))
    for (const { pieces, bytes, frame } of shared.encoded.socketIo) this.write(pieces, bytes, frame)
  }

  protected received(piece: string | Buffer): void {
    try {
      const packet = this.assembler.add(piece)
      if (packet === null) return
      const text = typeof packet === 'string'
      if (text) this.remember(packet)
      this.session.receive(text ? Buffer.from(packet) : packet, text)
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      // As a Socket.IO server does with what it cannot read.
      this.close()
    }
  }

  protected override upgraded(transport: string): void {
    this.session.receive(encodeNote({ transport }), false)
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
}

function encode(payload: Buffer, text: boolean): EncodedPacket {
  if (text) return encodeText(payload)
  const { header, attachments } = decodeAttached(payload)
  return { pieces: [header, ...attachments], bytes: payload.length, frame: null }
}
