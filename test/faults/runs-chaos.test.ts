import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { RunChaos, runFaults } from '../support/run-chaos.ts'

const seed = testSeed('runs chaos')

test('producers, gateways and Redis are killed and stopped: every run has its text and its end', async () => {
  await using chaos = await RunChaos.start({
    seed,
    runs: 24,
    gateways: 2,
    producers: 2,
    tokensMost: 150,
    pauseMs: 10,
    seconds: 0,
    faults: runFaults,
    calmMsMost: 400,
    awayMsMost: 2_500,
  })
  const report = await chaos.run()
  expect(report.wrong, JSON.stringify(report, null, 1)).toEqual([])
  expect(report.left).toEqual({ owned: 0, live: 0, jobs: 0 })
  expect(report.complete).toBeGreaterThan(24)
  expect(Object.keys(report.faults).toSorted()).toEqual([...runFaults].toSorted())
}, 180_000)
