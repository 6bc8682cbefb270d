import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeChannelPayload, encodeChannelPayload } from '../../../src/cluster/channel-payload.ts'

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
  fc.string({ unit: 'binary', maxLength: 50 }).map((text) => Buffer.from(text)),
  // The mark, alone and before anything.
  fc.uint8Array({ maxLength: 20 }).map((array) => Buffer.from([0, ...array])),
  fc.string({ maxLength: 20 }).map((text) => Buffer.from(`\0${text}`)),
)

test('what is encoded comes back the same, text as text and binary as binary', () => {
  fc.assert(
    fc.property(bytes, fc.boolean(), (payload, text) => {
      fc.pre(!text || isUtf8(payload))
      expect(decodeChannelPayload(encodeChannelPayload(payload, text))).toEqual({ payload, text })
    }),
    { numRuns: 2_000 },
  )
})

test('whatever another client publishes is read without an error', () => {
  fc.assert(
    fc.property(bytes, (received) => {
      const decoded = decodeChannelPayload(received)
      if (received[0] !== 0) expect(decoded).toEqual({ payload: received, text: isUtf8(received) })
      else if (decoded !== null) expect(decoded.payload).toEqual(received.subarray(2))
    }),
    { numRuns: 2_000 },
  )
})

test('an envelope is worn only where it is needed', () => {
  const encode = (payload: string | number[], text: boolean) =>
    encodeChannelPayload(Buffer.from(payload as string), text).toString('latin1')
  expect(encode('hello', true)).toBe('hello')
  expect(encode('', true)).toBe('')
  expect(encode([0xff, 0xfe], false)).toBe('\xff\xfe')
  expect(encode('hello', false)).toBe('\0bhello')
  expect(encode('', false)).toBe('\0b')
  expect(encode('\0', true)).toBe('\0t\0')
  expect(encode([0, 0xff], false)).toBe('\0b\0\xff')
})

test('an envelope of another kind is not guessed at', () => {
  for (const junk of ['\0', '\0x', '\0B', '\0\0b', '\0t\xff'])
    expect(decodeChannelPayload(Buffer.from(junk, 'latin1'))).toBeNull()
})

test('text that is not UTF-8 is refused', () => {
  expect(() => encodeChannelPayload(Buffer.from([0xc3, 0x28]), true)).toThrow(
    expect.objectContaining({ code: 'BAD_REQUEST' }),
  )
})
