import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Outcome,
  OutlierDetector,
  defaultOutlierRules as rules,
} from '../../../src/core/health/outlier.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('outlier')

/** A pool of upstreams that are seen alive. */
function pool(...ids: string[]): OutlierDetector {
  const detector = new OutlierDetector()
  for (const id of ids) {
    detector.add(id, 0)
    detector.probed(id, true)
  }
  return detector
}

/** Reports the outcomes a second apart; gives the number of the one that ejected. */
function ejectedAfter(detector: OutlierDetector, id: string, outcomes: Outcome[], fromMs = 0): number | null {
  const index = outcomes.findIndex((outcome, n) => detector.report(id, outcome, fromMs + n * 1_000))
  return index === -1 ? null : index + 1
}

const times = <T>(count: number, item: T): T[] => Array<T>(count).fill(item)

describe('what ejects', () => {
  test.each([
    [times(3, 'connect-failed'), 3],
    [times(9, 'error-response'), 5],
    [times(9, 'broken'), 5],
    [['connect-failed', 'connect-failed', 'ok', 'connect-failed', 'connect-failed'], null],
    [['connect-failed', 'error-response', 'broken', 'error-response', 'connect-failed', 'connect-failed'], 6],
    [[...times(4, 'error-response'), 'ok', ...times(4, 'error-response')], null],
    [times(50, 'ok'), null],
  ] as [Outcome[], number | null][])('%j: after %s', (outcomes, after) => {
    expect(ejectedAfter(pool('a', 'b'), 'a', outcomes)).toBe(after)
  })

  test('a process that ends cuts all its connections at once: that is one cut', () => {
    const detector = pool('a', 'b')
    for (let n = 0; n < 1_000; n++) expect(detector.report('a', 'broken', 5_000 + n * 0.5)).toBe(false)
    expect(ejectedAfter(detector, 'a', times(9, 'broken'), 10_000)).toBe(4)
  })

  test('unknown ids, and upstreams that are ejected already, are nobody', () => {
    const detector = pool('a', 'b')
    expect(detector.report('x', 'connect-failed', 0)).toBe(false)
    expect(detector.probed('x', false)).toEqual([])
    ejectedAfter(detector, 'a', times(5, 'error-response'))
    expect(ejectedAfter(detector, 'a', times(50, 'connect-failed'), 5_000)).toBe(null)
    expect(detector.ejectionOf('a')).toMatchObject({ cause: 'error-response' })
  })

  test('what was seen while this process was stalled does not count', () => {
    const detector = pool('a', 'b')
    ejectedAfter(detector, 'a', times(2, 'connect-failed'))
    detector.forgetEvidence()
    expect(ejectedAfter(detector, 'a', times(9, 'connect-failed'))).toBe(3)
  })
})

describe('for how long', () => {
  /** Ejects it at `nowMs`; gives the time until it is back. */
  function lastsFrom(detector: OutlierDetector, nowMs: number): number {
    for (let n = 0; n < rules.errorResponses; n++) detector.report('a', 'error-response', nowMs)
    const { untilMs } = detector.ejectionOf('a')!
    expect(detector.expire(untilMs! - 1)).toEqual([])
    expect(detector.expire(untilMs!)).toEqual(['a'])
    return untilMs! - nowMs
  }

  test('each time twice as long, up to a bound; shorter again after calm', () => {
    const detector = pool('a', 'b')
    let now = 0
    const lasted: number[] = []
    for (let n = 0; n < 8; n++) {
      lasted.push(lastsFrom(detector, now) / 1_000)
      now += lasted.at(-1)! * 1_000
    }
    expect(lasted).toEqual([10, 20, 40, 80, 160, 300, 300, 300])
    now += 2 * rules.calmMs
    expect(lastsFrom(detector, now)).toBe(80_000)
    now += 80_000 + 60 * rules.calmMs
    expect(lastsFrom(detector, now)).toBe(rules.ejectMs)
  })

  test('failed connections: until a probe succeeds, however often that happens', () => {
    const detector = pool('a', 'b')
    for (let n = 0; n < 20; n++) {
      expect(ejectedAfter(detector, 'a', times(3, 'connect-failed'), n * 10_000)).toBe(3)
      expect(detector.expire(1e12)).toEqual([])
      expect(detector.probed('a', false)).toEqual([])
      expect(detector.ejectionOf('a')).toEqual({ cause: 'connect-failed', untilMs: null })
      expect(detector.probed('a', true)).toEqual(['a'])
      expect(detector.ejectionOf('a')).toBeNull()
    }
    expect(lastsFrom(detector, 1e6)).toBe(rules.ejectMs)
  })

  test('for 5xx a probe that succeeds says nothing', () => {
    const detector = pool('a', 'b')
    ejectedAfter(detector, 'a', times(5, 'error-response'))
    expect(detector.probed('a', true)).toEqual([])
    expect(detector.ejectionOf('a')).not.toBeNull()
  })
})

describe('at most half of a pool', () => {
  const fails = (detector: OutlierDetector, id: string) =>
    ejectedAfter(detector, id, times(9, 'error-response'))

  test.each([
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 2],
    [5, 2],
  ])('of %d upstreams %d', (size, most) => {
    const ids = Array.from({ length: size }, (_, n) => `u${n}`)
    const detector = pool(...ids)
    expect(ids.filter((id) => fails(detector, id) !== null)).toHaveLength(most)
  })

  test('those that are down count', () => {
    const detector = pool('a', 'b', 'c', 'd')
    detector.probed('a', false)
    detector.probed('b', false)
    expect(fails(detector, 'c')).toBeNull()
    detector.probed('b', true)
    expect(detector.report('c', 'error-response', 20_000)).toBe(true)
  })

  test('when others go down or leave, the one that would be back first is back', () => {
    const detector = pool('a', 'b', 'c', 'd')
    fails(detector, 'a')
    ejectedAfter(detector, 'b', times(9, 'error-response'), 5_000)
    expect(detector.probed('c', false)).toEqual(['a'])
    expect(detector.remove('d')).toEqual(['b'])
  })

  test('always, whatever happens', () => {
    const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    const id = fc.constantFrom(...ids)
    const outcome = fc.constantFrom<Outcome>(
      'ok',
      'connect-failed',
      'error-response',
      'broken',
      'error-response',
    )
    const step = fc.oneof(
      { weight: 12, arbitrary: fc.record({ do: fc.constant('report' as const), id, outcome }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('probed' as const), id, healthy: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('add' as const, 'remove' as const), id }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), fc.integer({ min: 1, max: 3_000 }), (steps, paceMs) => {
        const detector = pool(...ids)
        const members = new Set(ids)
        const down = new Set<string>()
        const ejected = new Set<string>()
        let now = 0
        for (const one of steps) {
          now += paceMs
          const back = detector.expire(now)
          if (one.do === 'report') {
            if (detector.report(one.id, one.outcome, now)) ejected.add(one.id)
          } else if (one.do === 'probed') {
            back.push(...detector.probed(one.id, one.healthy))
            if (one.healthy) down.delete(one.id)
            else if (members.has(one.id)) down.add(one.id)
          } else if (one.do === 'add' && !members.has(one.id)) {
            back.push(...detector.add(one.id, now))
            members.add(one.id)
            down.add(one.id)
          } else if (one.do === 'remove') {
            back.push(...detector.remove(one.id))
            for (const set of [members, down, ejected]) set.delete(one.id)
          }
          for (const id of back) {
            expect(ejected.delete(id)).toBe(true)
          }
          // What is told is what there is.
          expect(ids.filter((id) => detector.ejectionOf(id) !== null)).toEqual(
            ids.filter((id) => ejected.has(id)),
          )
          const onlyEjected = [...ejected].filter((id) => !down.has(id))
          if (onlyEjected.length > 0)
            expect(new Set([...ejected, ...down]).size).toBeLessThanOrEqual(members.size / 2)
        }
      }),
      { seed, numRuns: 300 },
    )
  })
})
