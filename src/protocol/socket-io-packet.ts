import { EvenkeelError } from './errors.ts'
import { readU32, writeU32 } from './link-records.ts'

/**
 * Socket.IO packets as session messages (PROTOCOL.md §1.11). A packet without attachments is a text message as it is; one with
 * attachments is `u32 headerBytes | header | (u32 bytes | attachment)*`; a note between edge and node, which no client can
 * write, has a header of 0 bytes and JSON behind it.
 */

/** Attachments of one packet. Older versions of socket.io-parser have no bound of their own; newer ones take 10. */
export const maxAttachments = 64

export interface AttachedPacket {
  readonly header: string
  readonly attachments: readonly Buffer[]
}

/** What a Socket.IO packet says before its data. */
export interface PacketHead {
  /** 0 CONNECT, 1 DISCONNECT, 2 EVENT, 3 ACK, 4 CONNECT_ERROR, 5 BINARY_EVENT, 6 BINARY_ACK. */
  readonly type: number
  readonly attachments: number
  readonly namespace: string
  /** null: none is asked for. */
  readonly ack: number | null
}

export const PacketType = {
  connect: 0,
  disconnect: 1,
  event: 2,
  ack: 3,
  connectError: 4,
  binaryEvent: 5,
  binaryAck: 6,
} as const

const firstDigit = 0x30
const headPattern = /^([0-6])(?:(\d{1,10})-)?(?:(\/[^,]*),?)?(\d{1,16})?/

/** How many attachments follow the packet. Throws BAD_REQUEST for what is no packet or has too many. */
export function attachmentCount(packet: string): number {
  const type = packet.charCodeAt(0) - firstDigit
  if (!(type >= PacketType.connect && type <= PacketType.binaryAck)) throw invalid('unknown packet type')
  if (type < PacketType.binaryEvent) return 0
  const match = /^.(\d{1,10})-/.exec(packet)
  if (match === null) throw invalid('a binary packet without its number of attachments')
  const count = Number(match[1])
  if (count > maxAttachments) throw invalid(`a packet has at most ${maxAttachments} attachments`)
  return count
}

/** Throws BAD_REQUEST. */
export function packetHead(packet: string): PacketHead {
  const match = headPattern.exec(packet)
  if (match === null) throw invalid('unknown packet type')
  const [, type, attachments, namespace = '/', ack] = match
  return {
    type: Number(type),
    attachments: attachments === undefined ? 0 : Number(attachments),
    namespace,
    ack: ack === undefined ? null : Number(ack),
  }
}

export function encodeAttached(header: string, attachments: readonly Uint8Array[]): Buffer {
  const headerBytes = Buffer.byteLength(header)
  let size = 4 + headerBytes
  for (const attachment of attachments) size += 4 + attachment.length
  const message = Buffer.allocUnsafe(size)
  writeU32(message, 0, headerBytes)
  message.write(header, 4)
  let at = 4 + headerBytes
  for (const attachment of attachments) {
    writeU32(message, at, attachment.length)
    message.set(attachment, at + 4)
    at += 4 + attachment.length
  }
  return message
}

/** Attachments are views into `message`. Throws BAD_REQUEST for what `encodeAttached` does not make. */
export function decodeAttached(message: Buffer): AttachedPacket {
  const headerBytes = message.length < 4 ? 0 : readU32(message, 0)
  if (headerBytes === 0 || headerBytes > message.length - 4)
    throw invalid('the header does not fit the message')
  const header = message.toString('utf8', 4, 4 + headerBytes)
  const count = attachmentCount(header)
  const attachments: Buffer[] = []
  let at = 4 + headerBytes
  for (; attachments.length < count; ) {
    if (message.length - at < 4) throw invalid('an attachment is missing')
    const bytes = readU32(message, at)
    at += 4
    if (bytes > message.length - at) throw invalid('an attachment does not fit the message')
    attachments.push(message.subarray(at, at + bytes))
    at += bytes
  }
  if (at !== message.length) throw invalid('bytes behind the last attachment')
  return { header, attachments }
}

export function isNote(message: Uint8Array): boolean {
  return message.length > 4 && message[0] === 0 && message[1] === 0 && message[2] === 0 && message[3] === 0
}

export function encodeNote(note: object): Buffer {
  const json = JSON.stringify(note)
  const message = Buffer.alloc(4 + Buffer.byteLength(json))
  message.write(json, 4)
  return message
}

/** Throws BAD_REQUEST. */
export function decodeNote(message: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(message.toString('utf8', 4))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw invalid('a note is a JSON object')
}

/** Puts packets together from what Engine.IO hands over one by one. */
export class PacketAssembler {
  private header = ''
  private missing = 0
  private attachments: Buffer[] = []
  private bytes = 0
  private readonly maxBytes: number

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** Returns the packet as one session message, or null while attachments are missing. Throws BAD_REQUEST. */
  add(piece: string | Uint8Array): string | Buffer | null {
    if (typeof piece === 'string') {
      if (this.missing > 0) throw invalid('text instead of an attachment')
      this.missing = attachmentCount(piece)
      if (this.missing === 0) return piece
      this.header = piece
      this.bytes = Buffer.byteLength(piece)
      return null
    }
    if (this.missing === 0) throw invalid('an attachment without its packet')
    this.bytes += piece.length + 4
    if (this.bytes > this.maxBytes) throw invalid(`a packet has at most ${this.maxBytes} bytes`)
    this.attachments.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength))
    if (--this.missing > 0) return null
    const { attachments } = this
    this.attachments = []
    return encodeAttached(this.header, attachments)
  }
}

function invalid(why: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', `Socket.IO packet: ${why}`)
}
