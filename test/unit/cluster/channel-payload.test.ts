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
  fc.string({ maxLength: 20 }).map((text) => Buffer.from(`\0p${text}`)),
  fc.string({ maxLength: 20 }).map((text) => Buffer.from(`\0pbepoch-7 ${text}`)),
)

test('what is encoded comes back the same, text as text and binary as binary', () => {
  fc.assert(
    fc.property(bytes, fc.boolean(), (payload, text) => {
      fc.pre(!text || isUtf8(payload))
      expect(decodeChannelPayload(encodeChannelPayload(payload, text))).toEqual({
        payload,
        text,
        position: null,
      })
    }),
    { numRuns: 2_000 },
  )
})

test('whatever another client publishes is read without an error', () => {
  fc.assert(
    fc.property(bytes, (received) => {
      const decoded = decodeChannelPayload(received)
      if (received[0] !== 0)
        expect(decoded).toEqual({ payload: received, text: isUtf8(received), position: null })
      else if (decoded?.position === null) expect(decoded.payload).toEqual(received.subarray(2))
      else if (decoded !== null) expect(received.includes(decoded.payload)).toBe(true)
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

test('an envelope with a position is read, and nothing that is only like one', () => {
  const decode = (text: string) => decodeChannelPayload(Buffer.from(text, 'latin1'))
  const position = { epoch: 'a1_Z', offset: 42 }
  expect(decode('\0pta1_Z-42 two words')).toEqual({ payload: Buffer.from('two words'), text: true, position })
  expect(decode('\0pba1_Z-42 \xff')).toEqual({ payload: Buffer.from([0xff]), text: false, position })
  expect(decode('\0pta1_Z-42 ')).toEqual({ payload: Buffer.from(''), text: true, position })
  for (const junk of [
    '\0p',
    '\0pt',
    '\0pt ',
    '\0pta-1',
    '\0pxa-1 x',
    '\0pta-0 x',
    '\0pta-01 x',
    '\0pta--1 x',
    '\0pta-9007199254740992 x',
    '\0pta-1\nx',
    '\0pta-1 \xff',
    '\0ptä-1 x',
    `\0pt${'a'.repeat(33)}-1 x`,
    `\0pt${'a'.repeat(1_000_000)}-1 x`,
  ])
    expect(decode(junk)).toBeNull()
})

test('text that is not UTF-8 is refused', () => {
  expect(() => encodeChannelPayload(Buffer.from([0xc3, 0x28]), true)).toThrow(
    expect.objectContaining({ code: 'BAD_REQUEST' }),
  )
})
