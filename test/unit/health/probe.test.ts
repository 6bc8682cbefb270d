import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ProbeState } from '../../../src/core/health/probe.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('probe')
const rules = { intervalMs: 5_000, timeoutMs: 2_000, failures: 3 }

function started(): ProbeState {
  const state = new ProbeState(rules, 0)
  state.begin(0, 0.5)
  state.end(null)
  return state
}

describe('health', () => {
  test('nobody is healthy before a probe has succeeded, and one failure is enough for the reason', () => {
    const state = new ProbeState(rules, 0)
    expect([state.healthy, state.reason]).toEqual([false, 'not probed yet'])
    state.begin(0, 0)
    expect(state.end('refused')).toBe(false)
    expect([state.healthy, state.reason]).toEqual([false, 'refused'])
    state.begin(5_000, 0)
    expect(state.end(null)).toBe(true)
    expect([state.healthy, state.reason]).toEqual([true, null])
  })

  test.each([
    [[false, false], true],
    [[false, false, false], false],
    [[false, false, true, false, false], true],
    [[false, false, true, false, false, false], false],
    [[false, false, false, false, true], true],
  ])('after %j it is healthy: %s', (results, healthy) => {
    const state = started()
    for (const success of results) state.end(success ? null : 'refused')
    expect([state.healthy, state.reason]).toEqual([healthy, healthy ? null : 'refused'])
  })

  test('as a model says, for every sequence; changes are told when they happen', () => {
    const events = fc.array(fc.constantFrom('ok', 'fail', 'void'), { maxLength: 60 })
    fc.assert(
      fc.property(events, fc.integer({ min: 1, max: 5 }), (sequence, failures) => {
        const state = new ProbeState({ ...rules, failures }, 0)
        let healthy = false
        let inRow = 0
        for (const event of sequence) {
          if (event === 'void') {
            state.void(0)
            inRow = 0
          } else {
            inRow = event === 'ok' ? 0 : inRow + 1
            const next: boolean = event === 'ok' || (healthy && inRow < failures)
            expect(state.end(event === 'ok' ? null : 'x')).toBe(next !== healthy)
            healthy = next
          }
          expect(state.healthy).toBe(healthy)
          expect(state.reason === null).toBe(healthy)
        }
      }),
      { seed, numRuns: 500 },
    )
  })
})

describe('time', () => {
  test('the first probe is due at once, the next ones by the interval from beginning to beginning', () => {
    const state = new ProbeState(rules, 100)
    expect([state.isDue(99), state.isDue(100)]).toEqual([false, true])
    state.begin(100, 1)
    state.end(null)
    expect([state.isDue(5_099), state.isDue(5_100)]).toEqual([false, true])
    state.begin(5_200, 0)
    state.end(null)
    expect([state.isDue(10_199), state.isDue(10_200)]).toEqual([false, true])
  })

  test('the second probe comes between half and the whole of the interval', () => {
    for (const [spread, dueAt] of [
      [0, 2_500],
      [0.5, 3_750],
    ] as const) {
      const state = new ProbeState(rules, 0)
      state.begin(0, spread)
      state.end(null)
      expect([state.isDue(dueAt - 1), state.isDue(dueAt)]).toEqual([false, true])
    }
  })

  test('never two at once', () => {
    const state = new ProbeState(rules, 0)
    state.begin(0, 0)
    expect(state.isDue(60_000)).toBe(false)
    state.hurry(60_000)
    expect(state.isDue(60_000)).toBe(false)
    state.end(null)
    expect(state.isDue(60_000)).toBe(true)
  })

  test('traffic that fails makes it look sooner, but not all the time', () => {
    const state = started()
    state.hurry(100)
    expect([state.isDue(499), state.isDue(500)]).toEqual([false, true])
    state.begin(500, 0)
    state.end('refused')
    state.hurry(2_000)
    expect(state.isDue(2_000)).toBe(true)
    // It never makes it look later.
    state.hurry(9_000)
    expect(state.isDue(2_000)).toBe(true)
  })

  test('a stall of the prober counts for nothing: failures begin anew, and it looks at once', () => {
    const state = started()
    state.end('refused')
    state.end('refused')
    state.begin(10_000, 0)
    state.void(70_000)
    expect([state.healthy, state.isDue(70_000)]).toEqual([true, true])
    state.end('refused')
    state.end('refused')
    expect(state.healthy).toBe(true)
    state.end('refused')
    expect(state.healthy).toBe(false)
  })
})
