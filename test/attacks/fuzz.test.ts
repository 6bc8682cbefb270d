import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { fuzz } from './fuzz/campaign.ts'

const seed = testSeed('fuzz')

test('50,000 hostile inputs: no crash, no hang, nothing kept, and good clients notice nothing', async () => {
  const { before, after, errors } = await fuzz(50_000, seed)
  expect(errors).toEqual([])
  expect(after.usedKib - before.usedKib).toBeLessThan(32 * 1024)
}, 120_000)
