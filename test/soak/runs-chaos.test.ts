import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { RunChaos, runFaults } from '../support/run-chaos.ts'

const seed = testSeed('runs chaos soak')

test('300 runs at a time with slow and dead readers, 2 minutes of kills and stops: every run has its text and its end', async () => {
  await using chaos = await RunChaos.start({
    seed,
    runs: 300,
    gateways: 3,
    producers: 3,
    tokensMost: 400,
    pauseMs: 60,
    seconds: 120,
    faults: runFaults,
    calmMsMost: 1_200,
    awayMsMost: 4_000,
  })
  const report = await chaos.run()
  console.log(JSON.stringify({ ...report, wrong: report.wrong.length }, null, 1))
  expect(report.wrong).toEqual([])
  expect(Object.keys(report.failed).filter((policy) => policy !== 'fail')).toEqual([])
  expect(report.left).toEqual({ owned: 0, live: 0, jobs: 0 })
  expect(report.complete).toBeGreaterThan(300)
}, 600_000)
