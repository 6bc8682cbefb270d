import { ackDigits, type Wrapping } from './wrappings.ts'

/**
 * What a load message carries, so that an echo proves by itself that it belongs to its connection,
 * came in order, and when it was sent. Everything is ASCII, six bits a character: a text
 * message must be valid UTF-8, and raw binary counters would not be. JSON would escape a backslash, so one
 * character stands in for it.
 *
 *   connection (4 characters) · sequence (5) · sent at, µs (6) · filler
 */
export const minimumPayloadBytes = 15

const idOffset = 0
const sequenceOffset = 4
const timeOffset = 9
/** Six characters carry 36 bits of microseconds, in two halves: bit operations end at 32 bits. */
const half = 2 ** 18

/**
 * Not zero: servers skip unmasking for a zero mask, which real clients never use. One constant for all
 * frames costs the servers the same as random ones and lets frames be encoded once.
 */
const mask = [0x37, 0xfa, 0x21, 0x3d] as const

const backslash = 0x5c
const substitute = 0x3f

export interface Template {
  readonly payloadBytes: number
  /** A client frame, header and mask included. */
  readonly frameBytes: number
  /** Where the payload starts in a client frame. */
  readonly clientHeaderBytes: number
  /** Where the number of the acknowledgement stands in it. */
  readonly ackAt: number | null
  readonly frame: Buffer
}

export function textFrameTemplate(payloadBytes: number, wrapping: Wrapping): Template {
  if (payloadBytes < minimumPayloadBytes || payloadBytes > 0xffff)
    throw new RangeError(`payload must be ${minimumPayloadBytes} to 65535 bytes, not ${payloadBytes}`)
  const { clientBefore, after, ackAt } = wrapping
  const payload = Buffer.alloc(payloadBytes, 'abcdefghijklmnopqrstuvwxyz')
  const message = Buffer.concat([Buffer.from(clientBefore), payload, Buffer.from(after)])
  const frame = maskedFrame(0x1, message)
  const clientHeaderBytes = frame.length - payloadBytes - after.length
  return {
    payloadBytes,
    frameBytes: frame.length,
    clientHeaderBytes,
    ackAt: ackAt === null ? null : frame.length - message.length + ackAt,
    frame,
  }
}

/** The number in a client frame: never 0 at the front. */
export function stampAck(buffer: Buffer, at: number, sequence: number): void {
  let left = ackOf(sequence)
  for (let i = ackDigits - 1; i >= 0; i--) {
    // It stands behind the type, two characters into the message.
    buffer[at + i] = (0x30 + (left % 10)) ^ mask[(i + 2) & 3]!
    left = Math.floor(left / 10)
  }
}

export function isAckOf(buffer: Buffer, at: number, sequence: number): boolean {
  return Number(buffer.toString('latin1', at, at + ackDigits)) === ackOf(sequence)
}

function ackOf(sequence: number): number {
  const least = 10 ** (ackDigits - 1)
  return least + (sequence % (9 * least))
}

export function maskedFrame(opcode: number, payload: Uint8Array): Buffer {
  const short = payload.length < 126
  const headerBytes = short ? 6 : 8
  const frame = Buffer.alloc(headerBytes + payload.length)
  frame[0] = 0x80 | opcode
  frame[1] = 0x80 | (short ? payload.length : 126)
  if (!short) frame.writeUInt16BE(payload.length, 2)
  frame.set(mask, headerBytes - 4)
  for (let i = 0; i < payload.length; i++) frame[headerBytes + i] = payload[i]! ^ mask[i & 3]!
  return frame
}

/** Writes id, sequence and time over those of the frame whose payload starts at `at`. */
export function stampFrame(buffer: Buffer, at: number, id: number, sequence: number, sentAtUs: number): void {
  const high = Math.floor(sentAtUs / half)
  const low = sentAtUs - high * half
  for (let i = 0; i < 4; i++) putDigit(buffer, at, idOffset + i, id >>> (6 * i))
  for (let i = 0; i < 5; i++) putDigit(buffer, at, sequenceOffset + i, sequence >>> (6 * i))
  for (let i = 0; i < 3; i++) putDigit(buffer, at, timeOffset + i, low >>> (6 * i))
  for (let i = 0; i < 3; i++) putDigit(buffer, at, timeOffset + 3 + i, high >>> (6 * i))
}

function putDigit(buffer: Buffer, at: number, index: number, value: number): void {
  const character = 0x40 | (value & 63)
  buffer[at + index] = (character === backslash ? substitute : character) ^ mask[index & 3]!
}

function digits(buffer: Buffer, at: number, count: number): number {
  let value = 0
  for (let i = count - 1; i >= 0; i--) {
    const character = buffer[at + i]!
    value = (value << 6) | ((character === substitute ? backslash : character) & 63)
  }
  return value
}

export function echoedId(buffer: Buffer, at: number): number {
  return digits(buffer, at + idOffset, 4)
}

export function echoedSequence(buffer: Buffer, at: number): number {
  return digits(buffer, at + sequenceOffset, 5)
}

export function echoedTimeUs(buffer: Buffer, at: number): number {
  return digits(buffer, at + timeOffset, 3) + digits(buffer, at + timeOffset + 3, 3) * half
}
