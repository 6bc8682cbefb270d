import { expect, test } from 'vitest'
import { createRandom, testSeed } from '../support/random.ts'
import { cutEverywhere } from '../support/sse-cuts.ts'

const seed = testSeed('sse-cut')

test('a stream cut at 2,000 byte offsets: what comes by Last-Event-ID continues it exactly', async () => {
  const { wrong, resumed } = await cutEverywhere(2_000, createRandom(seed))
  expect(wrong).toEqual([])
  expect(resumed).toBeGreaterThan(1_500)
})
