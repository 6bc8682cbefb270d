import { expect, onTestFinished, test } from 'vitest'
import { runHotClients } from '../support/hot-clients.ts'
import { startTestGateway } from '../support/in-process.ts'
import { testSeed } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'

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

test('two gateways do it together: each moves its own, one after the other', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const rebalance = { enabled: true, intervalMs: 1_000, tolerance: 0.03, load: 'traffic' as const }
  const start = () => startTestGateway({ rebalance, redis: redis.url })
  const gateways = [await start(), await start()]
  const report = await runHotClients({
    seed,
    intervalMs: 1_000,
    settleMs: 9_000,
    countMs: 2_000,
    messagesPerSecond: 1_500,
    gateways,
  })
  expect(report.moves).toBeGreaterThan(5)
  expect(report.moves + report.movesLater).toBeLessThanOrEqual(25)
  for (const part of report.parts) expect(Math.abs(part - 0.25), String(report.parts)).toBeLessThan(0.05)
}, 40_000)
