import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { runHotClients } from '../support/hot-clients.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { testSeed } from '../support/random.ts'
import { until } from '../support/until.ts'

const seed = testSeed('hot clients')

test('ten hot clients on one of four nodes are spread by few moves', async () => {
  const report = await runHotClients({
    seed,
    intervalMs: 1_000,
    settleMs: 7_000,
    countMs: 2_000,
    messagesPerSecond: 1_500,
  })
  expect(report.moves).toBeGreaterThan(5)
  expect(report.moves + report.movesLater).toBeLessThanOrEqual(20)
  // What is measured in a second each time is less exact than with the default times, which the soak test has.
  for (const part of report.parts) expect(Math.abs(part - 0.25), String(report.parts)).toBeLessThan(0.05)
}, 30_000)

test('sessions that cost their node much time are spread, though all send as much', async () => {
  const rebalance = { enabled: true, intervalMs: 1_000, load: 'traffic' as const, measure: 'time' as const }
  const gateway = await startTestGateway({ rebalance: { ...rebalance, tolerance: 0.03 } })
  const places = new Map<string, string>()
  const looks = new Set<() => void>()
  for (const id of ['a', 'b'])
    await startTestNode(
      gateway,
      {
        open(session) {
          places.set(session.id, id)
          for (const look of looks) look()
        },
        async message(session, data) {
          if (data === 'slow') await delay(40)
          session.send(data === 'who' ? session.id : data)
        },
      },
      { id, gateways: [gateway.linkUrl] },
    )
  const clients = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const ws = new WebSocket(gateway.wsUrl)
      onTestFinished(() => ws.terminate())
      const id = await new Promise<string>((resolve) => {
        ws.once('open', () => ws.send('who'))
        ws.once('message', (data) => resolve(String(data)))
      })
      return { ws, id }
    }),
  )
  const costly = clients.filter(({ id }) => places.get(id) === 'a').slice(0, 4)
  expect(costly.length).toBe(4)
  const timer = setInterval(() => {
    for (const client of clients) client.ws.send(costly.includes(client) ? 'slow' : 'quick')
  }, 100)
  onTestFinished(() => clearInterval(timer))
  await until(() => costly.filter(({ id }) => places.get(id) === 'b').length === 2, looks)
}, 30_000)
