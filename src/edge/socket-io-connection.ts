import type { Socket as EngineSocket } from 'engine.io'
import type { SharedMessages } from '../gateway/client-connection.ts'
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
import { EngineConnection, type EngineConnectionHost } from './engine-io-connection.ts'
import { encodeAttachedPacket, encodeMessage, writeAttached, writeMessage } from './engine-io-frames.ts'

/** CONNECT packets kept for a node that has to begin anew; namespaces beyond are lost to their client then. */
const connectsKept = 256
const disconnectDigit = 0x30 + PacketType.disconnect
const connectErrorDigit = 0x30 + PacketType.connectError
/** In a message with attachments. */
const attachedHeaderAt = 4

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
    const packetStart = text ? start : start + attachedHeaderAt
    const first = batch[packetStart]
    if (first === disconnectDigit || first === connectErrorDigit)
      this.connects.delete(packetHead(batch.toString('utf8', packetStart, end)).namespace)
    const out = this.directly()
    if (out === null) this.write(piecesOf(batch.subarray(start, end), text), end - start)
    else if (text) writeMessage(this.writer, out, batch, start, end, true)
    else writeAttached(this.writer, out, batch.subarray(start, end))
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.socketIo ??= shared.messages.map(({ payload, text }) =>
      text ? encodeMessage(payload, true) : encodeAttachedPacket(payload),
    )
    this.writeShared(shared.encoded.socketIo)
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

  private noted(note: Record<string, unknown>): void {
    if (note.replay !== true) return
    for (const packet of [...this.connects.values()]) this.session.receive(Buffer.from(packet), true)
  }
}

function piecesOf(message: Buffer, text: boolean): readonly (string | Buffer)[] {
  if (text) return [message.toString()]
  const { header, attachments } = decodeAttached(message)
  return [header, ...attachments]
}
