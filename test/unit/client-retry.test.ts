import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isFinalCode, Retry } from '../../client/retry.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('client retry')
const failed = { openMs: null, retryMs: 0 }

/** PROTOCOL.md §4, and what a WebSocket says by itself. */
test.each([
  [1000, true],
  [1001, false],
  [1002, true],
  [1003, true],
  [1005, false],
  [1006, false],
  [1007, true],
  [1008, true],
  [1009, true],
  [1010, true],
  [1011, false],
  [1012, false],
  [1013, false],
  [1014, false],
  [1015, false],
  [3000, true],
  [3999, true],
  [4000, false],
  [4008, false],
  [4099, false],
  [4100, true],
  [4101, true],
  [4199, true],
  [4200, true],
  [4999, true],
])('code %d is the end: %s', (code, isFinal) => {
  expect(isFinalCode(code)).toBe(isFinal)
})

test('nobody has answered yet: up to 1 s, then from 500 ms to 30 s, doubling', () => {
  const retry = new Retry(() => 1)
  const waits = Array.from({ length: 10 }, () => retry.after(failed))
  expect(waits).toEqual([1_000, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
})

test('after a connection that has lasted: what its gateway asked for, then the same', () => {
  const retry = new Retry(() => 1)
  for (let i = 0; i < 5; i++) retry.after(failed)
  expect(retry.after({ openMs: 10_000, retryMs: 1_234 })).toBe(1_234)
  expect([1, 2, 3].map(() => retry.after(failed))).toEqual([500, 1_000, 2_000])
})

test('connections that do not last are failures, so a session that breaks each of them is no endless loop', () => {
  const retry = new Retry(() => 1)
  const waits = Array.from({ length: 5 }, () => retry.after({ openMs: 9_999, retryMs: 100 }))
  expect(waits).toEqual([100, 600, 1_100, 2_100, 4_100])
})

test('full jitter: the random number alone decides, below the bound', () => {
  const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  const property = fc.property(fc.nat(2_000), fraction, (failures, random) => {
    const retry = new Retry(() => random)
    const most = new Retry(() => 1)
    for (let i = 0; i < failures; i++) {
      retry.after(failed)
      most.after(failed)
    }
    const bound = most.after(failed)
    expect(bound).toBeLessThanOrEqual(30_000)
    expect(retry.after(failed)).toBeCloseTo(random * bound, 6)
  })
  fc.assert(property, { seed, numRuns: 200 })
})

test('gateways that leave one after the other: at once, then up to 1 s, and no failure', () => {
  const retry = new Retry(() => 1)
  const asked = { openMs: 10, retryMs: null }
  expect(Array.from({ length: 7 }, () => retry.after(asked))).toEqual([0, 100, 200, 400, 800, 1_000, 1_000])
  expect(retry.after({ openMs: 10, retryMs: 1_234 })).toBe(1_234)
})
