import { isUtf8 } from 'node:buffer'
import { EvenkeelError } from '../protocol/errors.ts'
import { type Position, parsePosition } from '../protocol/position.ts'

/**
 * What a channel's message looks like in Redis, PROTOCOL.md §5.1: as it is, so that any Redis client can take part.
 * Only what would be read back as something else wears an envelope, and what has a position (`lua/history-publish.lua`).
 */

const envelopeMark = 0x00
const binaryMark = 0x62
const positionMark = 0x70
const textMark = 0x74
const positionEnd = 0x20
const envelopeBytes = 2
/** Mark, kind, position, space. */
const positionEnvelopeBytesMax = 64

export interface ChannelPayload {
  payload: Buffer
  text: boolean
  /** null: it is in no history. */
  position: Position | null
}

/** Throws BAD_REQUEST for text that is not UTF-8. */
export function assertText(payload: Buffer, text: boolean): void {
  if (text && !isUtf8(payload))
    throw new EvenkeelError('BAD_REQUEST', 'a text message must be valid UTF-8; send it as binary')
}

/** Never returns the given buffer's memory in an envelope. Throws BAD_REQUEST for text that is not UTF-8. */
export function encodeChannelPayload(payload: Buffer, text: boolean): Buffer {
  assertText(payload, text)
  if (text === isUtf8(payload) && payload[0] !== envelopeMark) return payload
  const enveloped = Buffer.allocUnsafe(envelopeBytes + payload.length)
  enveloped[0] = envelopeMark
  enveloped[1] = text ? textMark : binaryMark
  enveloped.set(payload, envelopeBytes)
  return enveloped
}

/** Returns null for an envelope that is none of ours; the message is a view of what was received. */
export function decodeChannelPayload(received: Buffer): ChannelPayload | null {
  if (received[0] !== envelopeMark) return { payload: received, text: isUtf8(received), position: null }
  if (received[1] === positionMark) return decodePositioned(received)
  return decodeKind(received[1], received.subarray(envelopeBytes), null)
}

function decodePositioned(received: Buffer): ChannelPayload | null {
  const start = envelopeBytes + 1
  const end = received.subarray(0, positionEnvelopeBytesMax).indexOf(positionEnd, start)
  const position = end === -1 ? null : parsePosition(received.toString('latin1', start, end))
  if (position === null || position.offset === 0) return null
  return decodeKind(received[envelopeBytes], received.subarray(end + 1), position)
}

/** `mark` is t or b. Returns null for another one, and for text that is not UTF-8. */
export function decodeKind(
  mark: number | undefined,
  payload: Buffer,
  position: Position | null,
): ChannelPayload | null {
  if (mark === binaryMark) return { payload, text: false, position }
  if (mark === textMark && isUtf8(payload)) return { payload, text: true, position }
  return null
}
