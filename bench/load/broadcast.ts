import { sharedClockUs } from '../measure/clock.ts'

/** The channel, room or topic that all subscribers are in. */
export const topic = 'news'

/**
 * What a published message carries: `000000001 0000000123456789 abc…`, its number and when it was published, in µs.
 * Plain digits and letters, because one system wraps it in JSON and must not have to escape anything.
 */
export const broadcastBytes = 100

const sequenceDigits = 9
const timeDigits = 16
const timeOffset = sequenceDigits + 1
const fillerOffset = timeOffset + timeDigits
const fillerText = ` ${'abcdefghijklmnopqrstuvwxyz'.repeat(4)}`.slice(0, broadcastBytes - fillerOffset)
const filler = Buffer.from(fillerText)

export function broadcastPayload(sequence: number): string {
  const time = String(sharedClockUs()).padStart(timeDigits, '0')
  return `${String(sequence).padStart(sequenceDigits, '0')} ${time}${fillerText}`
}

export function broadcastSequence(buffer: Buffer, at: number): number {
  return digits(buffer, at, sequenceDigits)
}

export function broadcastTimeUs(buffer: Buffer, at: number): number {
  return digits(buffer, at + timeOffset, timeDigits)
}

export function isBroadcastIntact(buffer: Buffer, at: number): boolean {
  return buffer.compare(filler, 0, filler.length, at + fillerOffset, at + broadcastBytes) === 0
}

function digits(buffer: Buffer, at: number, count: number): number {
  let value = 0
  for (let i = at; i < at + count; i++) value = value * 10 + buffer[i]! - 0x30
  return value
}
