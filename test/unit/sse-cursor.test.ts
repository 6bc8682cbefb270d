import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeCursor, parseCursor } from '../../src/protocol/sse-cursor.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('sse-cursor')
const token = 't'.repeat(43)
const id = (text: string) => fc.stringMatching(new RegExp(`^[A-Za-z0-9_-]${text}$`))
const position = fc.record({ epoch: fc.stringMatching(/^[A-Za-z0-9_]{1,32}$/), offset: fc.maxSafeNat() })
const cursor = fc.record({
  session: id('{1,64}'),
  token: id('{43}'),
  out: fc.nat(0xffff_ffff),
  positions: fc.array(fc.tuple(id('{6}'), position), { maxLength: 8 }).map((entries) => new Map(entries)),
})

test('parse(encode(x)) = x', () => {
  const property = fc.property(cursor, (one) => {
    expect(parseCursor(encodeCursor(one))).toEqual(one)
  })
  fc.assert(property, { seed, numRuns: 2_000 })
})

test('it fits on a header line, and into an event without injecting anything', () => {
  const property = fc.property(cursor, (one) => {
    const text = encodeCursor(one)
    expect(text).toMatch(/^[A-Za-z0-9_.-]+$/)
    expect(text.length).toBeLessThanOrEqual(600)
  })
  fc.assert(property, { seed, numRuns: 500 })
})

test.each([
  '',
  'end',
  'a',
  `a.${token}`,
  `a.${token}.`,
  `a.${token}.-1`,
  `a.${token}.01`,
  `a.${token}.4294967296`,
  `a.${token}.1e3`,
  `a.${token}x.1`,
  `a b.${token}.1`,
  `a.${token}.1.abcdef`,
  `a.${token}.1.abcde.e-1`,
  `a.${token}.1.abcdef.e1`,
  `a.${token}.1${'.abcdef.e-1'.repeat(9)}`,
  `a.${token}.1.abcdef.${'e'.repeat(33)}-1`,
  `${'a'.repeat(1_024)}.${token}.1`,
])('%j is none', (text) => {
  expect(parseCursor(text)).toBeNull()
})

test('whatever a client sends is parsed or null', () => {
  const piece = fc.oneof(fc.string(), fc.constantFrom('.', token, 'session', '7', 'abcdef', 'e-1', '\r\n'))
  const property = fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
    const parsed = parseCursor(pieces.join(''))
    if (parsed !== null) expect(encodeCursor(parsed)).toBe(pieces.join(''))
  })
  fc.assert(property, { seed, numRuns: 5_000 })
})
