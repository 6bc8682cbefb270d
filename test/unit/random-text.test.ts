import { expect, test } from 'vitest'
import { randomText } from '../../src/gateway/random-text.ts'

test('texts of random bytes are as long as asked for and never the same, over many fillings of the pool', () => {
  const texts = Array.from({ length: 5_000 }, (_, i) => randomText(9 + (i % 24)))
  expect(texts.map((text) => Buffer.from(text, 'base64url').length)).toEqual(
    texts.map((_, i) => 9 + (i % 24)),
  )
  expect(new Set(texts).size).toBe(texts.length)
  const zeros = texts.filter((text) =>
    Buffer.from(text, 'base64url')
      .subarray(-4)
      .every((byte) => byte === 0),
  )
  expect(zeros).toEqual([])
})
