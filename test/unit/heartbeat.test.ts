import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { judgeSilence, StallDetector } from '../../src/core/health/heartbeat.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('heartbeat')
const times = { suspectMs: 4_000, downMs: 6_000 }

test.each([
  [0, 'healthy'],
  [3_999, 'healthy'],
  [4_000, 'suspect'],
  [5_999, 'suspect'],
  [6_000, 'down'],
  [1e9, 'down'],
  [-1, 'healthy'],
] as const)('silent for %d ms: %s', (silentMs, health) => {
  expect(judgeSilence(silentMs, times)).toBe(health)
})

test('with both limits at the same time it is down', () => {
  expect(judgeSilence(100, { suspectMs: 100, downMs: 100 })).toBe('down')
})

describe('StallDetector', () => {
  test('the first tick is never late', () => {
    expect(new StallDetector(100, 50).tick(1e9)).toBe(false)
  })

  test.each([
    [100, false],
    [0, false],
    [150, false],
    [151, true],
    [60_000, true],
  ])('a tick %d ms after the one before (interval 100, tolerance 50): stalled %s', (gapMs, stalled) => {
    const detector = new StallDetector(100, 50)
    detector.tick(1_000)
    expect(detector.tick(1_000 + gapMs)).toBe(stalled)
  })

  test('after a stall it counts from the late tick, not from the plan', () => {
    const detector = new StallDetector(100, 50)
    detector.tick(0)
    expect([detector.tick(10_000), detector.tick(10_100), detector.tick(10_300)]).toEqual([true, false, true])
  })

  test('a stall is seen whenever it comes, and nothing else is', () => {
    const gaps = fc.array(fc.oneof(fc.integer({ min: 0, max: 150 }), fc.integer({ min: 151, max: 100_000 })))
    const property = fc.property(fc.nat(1e6), gaps, (startMs, gapsMs) => {
      const detector = new StallDetector(100, 50)
      let nowMs = startMs
      expect(detector.tick(nowMs)).toBe(false)
      for (const gapMs of gapsMs) {
        nowMs += gapMs
        expect(detector.tick(nowMs)).toBe(gapMs > 150)
      }
    })
    fc.assert(property, { seed, numRuns: 500 })
  })

  /** How the gateway uses both: a peer that was heard from until the stall must not be judged by it. */
  test('a process that was stopped for longer than downMs finds nobody dead', () => {
    const detector = new StallDetector(250, 2_000)
    let lastHeardAt = 0
    const judgeAt = (nowMs: number) => {
      if (detector.tick(nowMs)) lastHeardAt = nowMs
      return judgeSilence(nowMs - lastHeardAt, times)
    }
    for (let nowMs = 0; nowMs <= 2_000; nowMs += 250) expect(judgeAt(nowMs)).toBe('healthy')
    expect(judgeAt(62_000)).toBe('healthy')
    for (let nowMs = 62_250; nowMs < 66_000; nowMs += 250) expect(judgeAt(nowMs)).toBe('healthy')
    expect(judgeAt(66_000)).toBe('suspect')
    for (let nowMs = 66_250; nowMs < 68_000; nowMs += 250) judgeAt(nowMs)
    expect(judgeAt(68_000)).toBe('down')
  })
})
