import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatPosition, parsePosition } from '../../src/protocol/position.ts'

const epoch = fc.string({
  unit: fc.constantFrom(...'abcXYZ0189_'),
  minLength: 1,
  maxLength: 32,
})

test('what is written is read back', () => {
  fc.assert(
    fc.property(epoch, fc.nat(Number.MAX_SAFE_INTEGER), (name, offset) => {
      expect(parsePosition(formatPosition({ epoch: name, offset }))).toEqual({ epoch: name, offset })
    }),
  )
})

test.each([
  '',
  '-',
  'a',
  'a-',
  '-1',
  'a-01',
  'a--1',
  'a-1.5',
  'a-1e3',
  'a 1',
  'ä-1',
  'a-b-1',
  'a-1 ',
  ' a-1',
])('%j is no position', (text) => {
  expect(parsePosition(text)).toBeNull()
})

test('neither is what is too long or too large', () => {
  expect(parsePosition(`${'a'.repeat(33)}-1`)).toBeNull()
  expect(parsePosition(`a-${Number.MAX_SAFE_INTEGER + 1}`)).toBeNull()
  expect(parsePosition('a-1'.padEnd(10_000_000, '1'))).toBeNull()
})
