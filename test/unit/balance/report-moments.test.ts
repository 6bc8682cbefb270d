import fc from 'fast-check'
import { expect, test } from 'vitest'
import { reportEveryMs, untilReport } from '../../../src/core/balance/report-moments.ts'
import { testSeed } from '../../support/random.ts'

const unixMs = fc.nat({ max: 2 ** 42 })

test('nodes whose sessions change between two moments speak at the second one, all of them', () => {
  const property = fc.property(unixMs, fc.nat({ max: reportEveryMs - 1 }), (clock, later) => {
    const moment = clock - (clock % reportEveryMs)
    expect(moment + later + untilReport(moment + later)).toBe(moment + reportEveryMs)
  })
  fc.assert(property, { seed: testSeed('report moments') })
})

test('nobody waits for longer than the time between two, or not at all', () => {
  const waits = Array.from({ length: 200 }, (_, clock) => untilReport(clock))
  expect([Math.min(...waits), Math.max(...waits)]).toEqual([1, reportEveryMs])
})
