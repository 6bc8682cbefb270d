import type { EncodedPacket } from '../gateway/client-connection.ts'
import { decodeAttached } from '../protocol/socket-io-packet.ts'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import type { Outgoing, TurnWriter } from './turn-writer.ts'

/** What Engine.IO puts before a text message. */
const engineMessage = 0x34
const textHeader = Buffer.alloc(frameHeaderBytesMax + 1, engineMessage)
const binaryHeader = Buffer.alloc(frameHeaderBytesMax)

/** Ends the header, Engine.IO's byte behind it, at the end of `textHeader`; returns where it begins. */
function textHeaderFor(bytes: number): number {
  return writeFrameHeader(textHeader, frameHeaderBytesMax, 1 + bytes, Opcode.text, false)
}

function binaryHeaderFor(bytes: number): number {
  return writeFrameHeader(binaryHeader, frameHeaderBytesMax, bytes, Opcode.binary, false)
}

/** Writes the bytes `start` to `end` as one message of Engine.IO. */
export function writeMessage(
  writer: TurnWriter,
  out: Outgoing,
  batch: Buffer,
  start: number,
  end: number,
  text: boolean,
): void {
  if (text) writer.write(out, textHeader, textHeaderFor(end - start), batch, start, end)
  else writer.write(out, binaryHeader, binaryHeaderFor(end - start), batch, start, end)
}

/** Writes a packet of Socket.IO with attachments, as it is glued. Throws BAD_REQUEST. */
export function writeAttached(writer: TurnWriter, out: Outgoing, message: Buffer): void {
  const { header, attachments } = attachedBytes(message)
  writeMessage(writer, out, header, 0, header.length, true)
  for (const attachment of attachments) writeMessage(writer, out, attachment, 0, attachment.length, false)
}

/** A message of Engine.IO for several clients. */
export function encodeMessage(payload: Buffer, text: boolean): EncodedPacket {
  const pieces = [text ? payload.toString() : payload]
  return { pieces, bytes: payload.length, frames: Buffer.concat(frameOf(payload, text)) }
}

/** The same for a packet of Socket.IO with attachments. Throws BAD_REQUEST. */
export function encodeAttachedPacket(payload: Buffer): EncodedPacket {
  const { header, attachments } = attachedBytes(payload)
  const frames = [
    ...frameOf(header, true),
    ...attachments.flatMap((attachment) => frameOf(attachment, false)),
  ]
  const pieces = [header.toString(), ...attachments]
  return { pieces, bytes: payload.length, frames: Buffer.concat(frames) }
}

function frameOf(payload: Buffer, text: boolean): Buffer[] {
  const header = text
    ? textHeader.subarray(textHeaderFor(payload.length))
    : binaryHeader.subarray(binaryHeaderFor(payload.length))
  return [Buffer.from(header), payload]
}

/** The header as the bytes that it is in the message. */
function attachedBytes(message: Buffer): { header: Buffer; attachments: readonly Buffer[] } {
  const { header, attachments } = decodeAttached(message)
  return { header: message.subarray(4, 4 + Buffer.byteLength(header)), attachments }
}
