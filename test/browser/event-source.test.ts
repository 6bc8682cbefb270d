import { expect, test } from 'vitest'
import { blankPage } from '../support/browser.ts'
import type { Output } from '../support/ledger-message.ts'
import { atomicNodes, startCluster } from '../support/resumable-scene.ts'

/** What the page keeps. */
interface Kept {
  source: EventSource
  sessions: { session: string; token: string; recovered: boolean | null }[]
  outputs: Output[]
  errors: number
  gaps: number
  closed: string[]
  /** Posts a message until it is committed. */
  send(n: number, ms: number, pushes: number, bye?: boolean): Promise<void>
}
const patience = { timeout: 10_000 }

declare const window: { kept: Kept }

function openStream(): void {
  const source = new EventSource('/sse')
  const kept: Kept = {
    source,
    sessions: [],
    outputs: [],
    errors: 0,
    gaps: 0,
    closed: [],
    async send(n, ms, pushes, bye = false) {
      for (;;) {
        const { session, token } = kept.sessions.at(-1)!
        const headers = {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'idempotency-key': `${n}`,
        }
        const body = JSON.stringify({ n, ms, pushes, bye, pad: '' })
        const answer = await fetch(`/sse/${session}`, { method: 'POST', body, headers }).catch(() => null)
        if (answer?.status === 202) return
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    },
  }
  source.addEventListener('session', (event) => kept.sessions.push(JSON.parse((event as MessageEvent).data)))
  source.addEventListener('message', ({ data }) => kept.outputs.push(JSON.parse(data)))
  source.addEventListener('close', (event) => kept.closed.push((event as MessageEvent).data))
  source.addEventListener('gap', () => kept.gaps++)
  source.addEventListener('error', () => kept.errors++)
  window.kept = kept
}

test('EventSource of Chromium survives being offline and the death of its gateway', async () => {
  const config = { limits: { resumeSpreadMs: 300 } }
  const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(2), config })
  const [first, second] = cluster.gateways
  await cluster.shun(second!)
  const page = await blankPage(`http://127.0.0.1:${cluster.balancer.port}/healthz`)
  await page.evaluate(openStream)
  await page.waitForFunction(() => window.kept.sessions.length === 1)

  // Half of what a handler says comes before the wait in it, the rest when the client is away.
  const away = page.evaluate(() => window.kept.send(1, 1_500, 6))
  await expect.poll(async () => (await first!.sessions())[0]?.uncommitted, patience).toBe(1)
  // Offline, Chromium refuses new connections and keeps those that it has; a network that is gone does not.
  await page.context().setOffline(true)
  expect(await cluster.balancer.cut(first!.publicPort)).toBeGreaterThan(0)
  await page.waitForFunction(() => window.kept.errors > 0)
  await expect.poll(async () => (await first!.sessions())[0]?.uncommitted, patience).toBe(0)
  await page.context().setOffline(false)
  await away
  await page.waitForFunction(() => window.kept.outputs.length === 7)

  const killed = page.evaluate(() => window.kept.send(2, 1_500, 6))
  await expect.poll(async () => (await first!.sessions())[0]?.uncommitted, patience).toBe(1)
  await cluster.admit(second!)
  await first!.kill()
  await killed
  await page.waitForFunction(() => window.kept.outputs.length >= 14)
  await page.evaluate(() => window.kept.send(3, 0, 0))
  await page.waitForFunction(() => window.kept.outputs.some(({ n }) => n === 3))

  const { sessions, outputs, gaps, state } = await page.evaluate(() => {
    const { kept } = window
    return { sessions: kept.sessions, outputs: kept.outputs, gaps: kept.gaps, state: kept.source.readyState }
  })
  expect(outputs.map(({ o }) => o)).toEqual(Array.from({ length: 15 }, (_, i) => i + 1))
  expect(outputs.filter(({ kind }) => kind === 'echo').map(({ n, count }) => [n, count])).toEqual([
    [1, 1],
    [2, 2],
    [3, 3],
  ])
  expect(gaps).toBe(0)
  expect(state).toBe(1)
  expect(sessions.map(({ recovered }) => recovered)).toEqual([null, ...sessions.slice(1).map(() => true)])
  expect(sessions.length).toBeGreaterThanOrEqual(3)
  expect(new Set(sessions.map(({ session }) => session)).size).toBe(1)
  expect((await second!.sessions()).map(({ id }) => id)).toEqual([sessions[0]!.session])

  // The session is over: EventSource comes back once more, is told so, and stops.
  void page.evaluate(() => window.kept.send(4, 0, 0, true)).catch(() => {})
  await page.waitForFunction(() => window.kept.source.readyState === EventSource.CLOSED)
  expect(await page.evaluate(() => window.kept.closed)).toEqual(['{"code":4000,"reason":"bye"}'])
  expect(await second!.sessions()).toEqual([])
}, 60_000)
