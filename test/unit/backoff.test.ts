import fc from 'fast-check'
import { expect, test } from 'vitest'
import { backoffMs } from '../../src/core/backoff.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('backoff')
const most = () => 1
const attempts = fc.nat(10_000)
const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

test('it doubles up to the cap', () => {
  const bounds = [0, 1, 2, 3, 4, 5, 6, 7, 100].map((attempt) => backoffMs(attempt, most))
  expect(bounds).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000])
  expect([0, 1, 2, 3].map((attempt) => backoffMs(attempt, most, 10, 35))).toEqual([10, 20, 35, 35])
})

test('full jitter: from 0 to the bound, by the random number alone', () => {
  const property = fc.property(attempts, fraction, (attempt, random) => {
    const waitMs = backoffMs(attempt, () => random)
    expect(waitMs).toBeCloseTo(random * backoffMs(attempt, most), 9)
    expect(waitMs).toBeGreaterThanOrEqual(0)
    expect(waitMs).toBeLessThanOrEqual(5_000)
  })
  fc.assert(property, { seed, numRuns: 1_000 })
})

test('a later attempt never has a smaller bound, however many there were', () => {
  const property = fc.property(attempts, (attempt) => {
    expect(backoffMs(attempt + 1, most)).toBeGreaterThanOrEqual(backoffMs(attempt, most))
    expect(Number.isFinite(backoffMs(attempt, most, 100, Number.POSITIVE_INFINITY))).toBe(true)
  })
  fc.assert(property, { seed, numRuns: 500 })
})

test('one random number for each wait', () => {
  let calls = 0
  backoffMs(3, () => {
    calls++
    return 0.5
  })
  expect(calls).toBe(1)
})
