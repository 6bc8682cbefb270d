import { expect, test } from 'vitest'
import { fuzz } from '../attacks/fuzz/campaign.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('fuzz')
const inputs = Number(process.env.FUZZ_INPUTS ?? 1_000_000)
const growthKib = 32 * 1024

test('1,000,000 hostile inputs: no crash, no hang, memory back to where it was', async () => {
  const verdict = await fuzz(inputs, seed)
  console.log(JSON.stringify(verdict))
  expect(verdict.errors).toEqual([])
  expect(verdict.after.usedKib - verdict.before.usedKib).toBeLessThan(growthKib)
  expect(verdict.after.rssKib - verdict.before.rssKib).toBeLessThan(growthKib)
}, 5_400_000)
