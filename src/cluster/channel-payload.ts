import { isUtf8 } from 'node:buffer'
import { EvenkeelError } from '../protocol/errors.ts'

/**
 * What a channel's message looks like in Redis, PROTOCOL.md §5.1: as it is, so that any Redis client can take part.
 * Only what would be read back as something else wears an envelope.
 */

const envelopeMark = 0x00
const binaryMark = 0x62
const textMark = 0x74
const envelopeBytes = 2

export interface ChannelPayload {
  payload: Buffer
  text: boolean
}

/** Never returns the given buffer's memory in an envelope. Throws BAD_REQUEST for text that is not UTF-8. */
export function encodeChannelPayload(payload: Buffer, text: boolean): Buffer {
  const utf8 = isUtf8(payload)
  if (text && !utf8)
    throw new EvenkeelError('BAD_REQUEST', 'a text message must be valid UTF-8; send it as binary')
  if (text === utf8 && payload[0] !== envelopeMark) return payload
  const enveloped = Buffer.allocUnsafe(envelopeBytes + payload.length)
  enveloped[0] = envelopeMark
  enveloped[1] = text ? textMark : binaryMark
  enveloped.set(payload, envelopeBytes)
  return enveloped
}

/** Returns null for an envelope that is none of ours; the message is a view of what was received. */
export function decodeChannelPayload(received: Buffer): ChannelPayload | null {
  if (received[0] !== envelopeMark) return { payload: received, text: isUtf8(received) }
  const payload = received.subarray(envelopeBytes)
  if (received[1] === binaryMark) return { payload, text: false }
  if (received[1] === textMark && isUtf8(payload)) return { payload, text: true }
  return null
}
