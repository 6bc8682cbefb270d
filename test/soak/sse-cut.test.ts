import { expect, test } from 'vitest'
import { createRandom, testSeed } from '../support/random.ts'
import { cutEverywhere } from '../support/sse-cuts.ts'

const seed = testSeed('sse-cut')

test('a stream cut at every byte offset: what comes by Last-Event-ID continues it exactly', async () => {
  const { wrong, resumed } = await cutEverywhere(Number.POSITIVE_INFINITY, createRandom(seed))
  expect(wrong).toEqual([])
  expect(resumed).toBeGreaterThan(2_000)
})
