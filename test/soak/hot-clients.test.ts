import { expect, test } from 'vitest'
import { runHotClients } from '../support/hot-clients.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('hot clients soak')

test('with the default times: within 30 seconds every node has its share within 15 %, and for 60 seconds nothing moves', async () => {
  const report = await runHotClients({
    seed,
    intervalMs: 10_000,
    settleMs: 30_000,
    countMs: 60_000,
    messagesPerSecond: 500,
  })
  console.log(JSON.stringify(report))
  expect(report.moves).toBeLessThanOrEqual(20)
  expect(report.movesLater).toBe(0)
  for (const part of report.parts)
    expect(Math.abs(part - 0.25), String(report.parts)).toBeLessThan(0.15 * 0.25)
}, 150_000)
