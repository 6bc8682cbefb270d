import { expect, test } from 'vitest'
import {
  atLeast,
  isFailureCode,
  judge,
  nothingSeen,
  type Seen,
} from '../../../src/core/health/canary-verdict.ts'
import { createRandom, testSeed } from '../../support/random.ts'

const hour = 3_600_000
const rules = { watchMs: 60_000, maxErrorRatio: 2, maxTimeRatio: 3, minSessions: 1 }

function seen(change: Partial<Seen>): Seen {
  return { ...nothingSeen, sessionMs: hour, ...change }
}

function timed(count: number, ms: number): Seen {
  return seen({ timed: count, timedLog: count * Math.log1p(ms) })
}

test.each<[string, Seen, Seen, number, string]>([
  ['nothing failed, too early', seen({}), seen({ sessionMs: 99 * hour }), 59_999, 'wait'],
  ['nothing failed, in time', seen({}), seen({ sessionMs: 99 * hour }), 60_000, 'pass'],
  ['too little was seen', seen({ sessionMs: 59_999 }), seen({}), 600_000, 'wait'],
  ['two failures say nothing', seen({ failures: 2 }), seen({ sessionMs: 99 * hour }), 1_000, 'wait'],
  ['three where nobody else fails', seen({ failures: 3 }), seen({ sessionMs: 99 * hour }), 1_000, 'fail'],
  ['as many as the others have', seen({ failures: 10 }), seen({ failures: 10 }), 60_000, 'pass'],
  ['half as many again', seen({ failures: 150 }), seen({ failures: 100 }), 60_000, 'pass'],
  ['four times as many', seen({ failures: 200 }), seen({ failures: 50 }), 1_000, 'fail'],
  [
    'as often as a hundred times as many others',
    seen({ failures: 5 }),
    seen({ sessionMs: 99 * hour, failures: 500 }),
    60_000,
    'pass',
  ],
  ['few on both sides are no proof', seen({ failures: 4 }), seen({ failures: 1 }), 1_000, 'wait'],
  ['slow, but too few were timed', timed(49, 100), timed(60, 10), 1_000, 'wait'],
  ['slow', timed(50, 100), timed(60, 10), 1_000, 'fail'],
  ['twice as slow', timed(50, 20), timed(60, 10), 60_000, 'pass'],
  ['thrice of nearly nothing', timed(50, 1.5), timed(60, 0.1), 60_000, 'pass'],
  [
    'one message that took 10 s',
    seen({ timed: 50, timedLog: 49 * Math.log1p(10) + Math.log1p(10_000) }),
    timed(60, 10),
    60_000,
    'pass',
  ],
])('%s', (_, canary, others, elapsedMs, kind) => {
  expect(judge(canary, others, elapsedMs, rules).kind).toBe(kind)
})

test('a version that is no worse hardly ever fails, one that fails ten times as often always does', () => {
  const random = createRandom(testSeed('canary verdicts'))
  const verdicts = { same: 0, worse: 0 }
  for (let trial = 0; trial < 200; trial++) {
    for (const [name, ratio] of [
      ['same', 1],
      ['worse', 10],
    ] as const) {
      // A hundred sessions beside 9,900; each fails once in 40 looks, or ten times as often.
      let [own, others] = [0, 0]
      for (let look = 0; look < 20; look++) {
        for (let i = 0; i < 10; i++) if (random.chance(0.025 * ratio)) own++
        for (let i = 0; i < 990; i++) if (random.chance(0.025)) others++
        const canary = seen({ sessionMs: 10 * look * 1_000, failures: own })
        if (
          judge(canary, seen({ sessionMs: 990 * look * 1_000, failures: others }), 0, rules).kind === 'fail'
        ) {
          verdicts[name]++
          break
        }
      }
    }
  }
  expect(verdicts.worse).toBe(200)
  expect(verdicts.same).toBeLessThanOrEqual(4)
})

test('the probability of so many or more', () => {
  expect(atLeast(0, 5, 0.5)).toBe(1)
  expect(atLeast(3, 3, 0.5)).toBeCloseTo(0.125, 10)
  expect(atLeast(2, 3, 0.5)).toBeCloseTo(0.5, 10)
  expect(atLeast(10_000, 20_000, 0.5)).toBeCloseTo(0.5, 1)
  expect(atLeast(5_000, 10_000, 0.01)).toBe(0)
})

test('closes that are failures, and those that are not', () => {
  expect([1002, 1011, 1013].every(isFailureCode)).toBe(true)
  expect([1000, 1001, 1005, 1006, 3000, 4008].some(isFailureCode)).toBe(false)
})
