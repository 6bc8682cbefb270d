import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Measures, Overload, type OverloadRules } from '../../../src/core/health/overload.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('overload')

const rules: OverloadRules = {
  shed: { lag: 500, memory: 850, descriptors: 90 },
  cut: { lag: 2_000, memory: 950, descriptors: 97 },
  looksToShed: 3,
  looksToRecover: 5,
}

/** What it is after each look. */
function story(looks: readonly Measures[]): string {
  const overload = new Overload(rules)
  return looks
    .map((measures) => {
      overload.look(measures)
      return overload.pressure[0]
    })
    .join('')
}

const lag = (...ms: number[]): Measures[] => ms.map((one) => ({ lag: one }))

describe('looks in a row', () => {
  test.each<[string, Measures[], string]>([
    ['a load that is borne', lag(0, 499, 400, 499, 499), 'nnnnn'],
    ['one long stall', lag(0, 60_000, 0, 0), 'nnnn'],
    ['two, and one that is better', lag(600, 600, 100, 600, 600, 100), 'nnnnnn'],
    ['three', lag(600, 600, 600, 600), 'nnss'],
    ['far too much', lag(3_000, 3_000, 3_000), 'nnc'],
    ['far too much, but not always', lag(3_000, 600, 3_000, 3_000, 3_000, 3_000), 'nnsssc'],
    ['it is over', lag(600, 600, 600, 0, 0, 0, 0, 0), 'nnsssssn'],
    ['hardly better is no better', lag(600, 600, 600, 450, 450, 450, 450, 450, 450), 'nnsssssss'],
    ['a relapse', lag(600, 600, 600, 0, 0, 0, 0, 600, 0, 0, 0, 0, 0), 'nnssssssssssn'],
    ['from the worst in two steps', lag(3e3, 3e3, 3e3, ...Array<number>(10).fill(0)), 'nncccccsssssn'],
    ['memory', [{ memory: 900 }, { memory: 900 }, { memory: 900 }], 'nns'],
    ['several at once', [{ lag: 600 }, { memory: 900 }, { descriptors: 95 }], 'nns'],
    ['what is not limited', [{ heap: 1 }, { heap: 1 }, { heap: 1 }], 'nnn'],
  ])('%s', (_, looks, expected) => {
    expect(story(looks)).toBe(expected)
  })
})

test('a change says what is worst', () => {
  const overload = new Overload(rules)
  const look = () => overload.look({ lag: 510, memory: 940 })
  expect([look(), look(), look()]).toEqual([null, null, { from: 'normal', to: 'shedding', strain: 'memory' }])
  const quiet = Array.from({ length: 5 }, () => overload.look({ lag: 0, memory: 0 }))
  expect(quiet).toEqual([null, null, null, null, { from: 'shedding', to: 'normal', strain: null }])
})

test('without limits nothing is too much', () => {
  const overload = new Overload({ shed: {}, cut: {}, looksToShed: 1, looksToRecover: 1 })
  expect(overload.look({ lag: 1e9, memory: 1e15, heap: 1, descriptors: 1e9 })).toBeNull()
})

test('whatever comes: it gets worse only after enough bad looks, better only after enough good ones, and changes are told', () => {
  const measures = fc.record({
    lag: fc.integer({ min: 0, max: 3_000 }),
    memory: fc.integer({ min: 0, max: 1_000 }),
  })
  fc.assert(
    fc.property(fc.array(measures, { maxLength: 200 }), (looks) => {
      const overload = new Overload(rules)
      const levels = ['normal', 'shedding', 'critical']
      let sinceChange = 0
      for (const look of looks) {
        const before = overload.pressure
        const change = overload.look(look)
        sinceChange++
        expect(change === null).toBe(before === overload.pressure)
        if (change === null) continue
        const step = levels.indexOf(change.to) - levels.indexOf(change.from)
        expect(sinceChange).toBeGreaterThanOrEqual(step > 0 ? rules.looksToShed : rules.looksToRecover)
        const isBad = look.lag >= 500 || look.memory >= 850
        expect(step > 0 ? isBad : step === -1).toBe(true)
        sinceChange = 0
      }
    }),
    { seed, numRuns: 200 },
  )
})
