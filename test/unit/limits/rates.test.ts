import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BoundedMap } from '../../../src/core/limits/bounded-map.ts'
import { MessagePace, outOfPatience } from '../../../src/core/limits/message-pace.ts'
import { isListed, networkOf } from '../../../src/core/limits/network.ts'
import { rateHeaders } from '../../../src/core/limits/rate-headers.ts'
import { ReturnSlots } from '../../../src/core/limits/return-slots.ts'
import { type Rate, TokenBucket } from '../../../src/core/limits/token-bucket.ts'
import { parseBlock } from '../../../src/core/net/address.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('rates')

const rates = fc.record({
  perSecond: fc.double({ min: 0.1, max: 5_000, noNaN: true }),
  burst: fc.integer({ min: 1, max: 1_000 }),
})
/** Milliseconds between one and the next. */
const steps = fc.array(fc.double({ min: 0, max: 2_000, noNaN: true }), { minLength: 1, maxLength: 200 })

/** When something was let through, of what came after these steps. */
function taken(rate: Rate, waits: readonly number[]): number[] {
  const bucket = new TokenBucket(rate, 0)
  let now = 0
  return waits.flatMap((ms) => {
    now += ms
    return bucket.take(now) ? [now] : []
  })
}

describe('a token bucket', () => {
  test('lets through, between any two, at most the burst and what the rate brings meanwhile', () => {
    fc.assert(
      fc.property(rates, steps, (rate, waits) => {
        const times = taken(rate, waits)
        for (let from = 0; from < times.length; from++)
          for (let to = from; to < times.length; to++) {
            const most = rate.burst + ((times[to]! - times[from]!) * rate.perSecond) / 1000
            expect(to - from + 1).toBeLessThanOrEqual(most + 1e-6)
          }
      }),
      { seed, numRuns: 100 },
    )
  })

  test('refuses nobody who keeps to the rate', () => {
    fc.assert(
      fc.property(rates, fc.integer({ min: 1, max: 500 }), (rate, count) => {
        const waits = Array<number>(count).fill(1000 / rate.perSecond + 1e-6)
        expect(taken(rate, waits)).toHaveLength(count)
      }),
      { seed, numRuns: 100 },
    )
  })

  test('says how long to wait: then there is one, and not a good while before', () => {
    const bucket = new TokenBucket({ perSecond: 4, burst: 2 }, 0)
    expect([bucket.take(0), bucket.take(0), bucket.take(0)]).toEqual([true, true, false])
    expect(bucket.waitMs(0)).toBe(250)
    expect([bucket.take(249), bucket.take(250), bucket.left(250)]).toEqual([false, true, 0])
  })

  test('a clock that runs back brings nothing', () => {
    const bucket = new TokenBucket({ perSecond: 1, burst: 1 }, 10_000)
    expect([bucket.take(10_000), bucket.take(0), bucket.take(10_500), bucket.take(11_000)]).toEqual([
      true,
      false,
      false,
      true,
    ])
  })
})

describe('the pace of messages', () => {
  const rate = { perSecond: 10, burst: 5 }

  test('within the burst nothing is held back; beyond it until it is made up for', () => {
    const pace = new MessagePace(rate, 10_000, 0)
    expect(Array.from({ length: 8 }, () => pace.take(0))).toEqual([0, 0, 0, 0, 0, 100, 200, 300])
    expect(pace.take(400)).toBe(0)
  })

  test('whoever sends at once what would take longer than patience to make up for is to be closed', () => {
    const pace = new MessagePace(rate, 1_000, 0)
    const waits = Array.from({ length: 16 }, () => pace.take(0))
    expect(waits.indexOf(outOfPatience)).toBe(15)
  })

  test('whoever goes on as soon as he is read again is closed when patience has run out', () => {
    const pace = new MessagePace(rate, 1_000, 0)
    let now = 0
    let waitMs = 0
    while (waitMs !== outOfPatience) {
      now += waitMs
      waitMs = pace.take(now)
      expect(now).toBeLessThan(2_000)
    }
    expect(now).toBeGreaterThanOrEqual(1_000)
  })

  test('whoever pauses is waited for anew', () => {
    const pace = new MessagePace(rate, 1_000, 0)
    for (let round = 0; round < 20; round++) {
      const now = round * 3_000
      for (let message = 0; message < 12; message++) expect(pace.take(now)).not.toBe(outOfPatience)
    }
  })

  test('a client that waits as it is told gets through what it sends at its rate, and no more', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), (count) => {
        const pace = new MessagePace(rate, Number.POSITIVE_INFINITY, 0)
        let now = 0
        for (let message = 0; message < count; message++) now += pace.take(now)
        expect(now).toBeLessThanOrEqual(Math.max(0, ((count - rate.burst) * 1000) / rate.perSecond) + count)
        expect(now).toBeGreaterThanOrEqual(((count - rate.burst) * 1000) / rate.perSecond - 1)
      }),
      { seed, numRuns: 50 },
    )
  })
})

test('those who are refused come back at the rate at which they can be taken', () => {
  const slots = new ReturnSlots(100)
  const returns = Array.from({ length: 500 }, () => slots.take(0, 0)).sort((a, b) => a - b)
  const busiest = Math.max(
    ...returns.map((from) => returns.filter((at) => at >= from && at < from + 1_000).length),
  )
  expect(busiest).toBeLessThanOrEqual(101)
  expect(returns.at(-1)).toBeCloseTo(4_990)
  // Nobody is sent away for ever, whatever comes.
  for (let i = 0; i < 100_000; i++) expect(slots.take(0, 1)).toBeLessThanOrEqual(61_000)
})

test.each([
  ['10.0.0.1', '10.0.0.1', true],
  ['10.0.0.1', '10.0.0.2', false],
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', true],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['fe80::1%eth0', 'fe80::2', true],
  ['::ffff:10.0.0.1', '::ffff:10.0.0.2', false],
  ['::1', '0.0.0.1', false],
])('%s and %s are one client: %s', (one, other, same) => {
  expect(networkOf(one) === networkOf(other)).toBe(same)
})

test.each([
  ['10.1.2.3', true],
  ['11.1.2.3', false],
  ['::ffff:10.1.2.3', true],
  ['2001:db8::5', true],
  ['2001:db9::5', false],
  ['', false],
  ['somewhere', false],
])('%s is listed: %s', (address, listed) => {
  const blocks = ['10.0.0.0/8', '2001:db8::/32'].map((text) => parseBlock(text)!)
  expect(isListed(address, blocks)).toBe(listed)
})

test('what is remembered of strangers is bounded, and the oldest is forgotten first', () => {
  const forgotten: number[] = []
  const map = new BoundedMap<number, { made: number }>(
    3,
    (key) => ({ made: key }),
    (key) => forgotten.push(key),
  )
  const first = map.get(1)
  for (const key of [2, 3]) map.get(key)
  expect(map.get(1)).toBe(first)
  map.get(4)
  expect([map.size, forgotten]).toEqual([3, [2]])
  for (let key = 0; key < 10_000; key++) map.get(key)
  expect(map.size).toBe(3)
})

test('a limit is told as the draft of the IETF has it', () => {
  expect(rateHeaders({ name: 'ip', rate: { perSecond: 5, burst: 10 }, left: 3, waitMs: 1_200 })).toEqual({
    'ratelimit-policy': '"ip";q=10;w=2',
    ratelimit: '"ip";r=3;t=2',
  })
})
