import { expect, test } from 'vitest'
import type { CanaryView } from '../../src/gateway/canary-operator.ts'
import { CanaryApi, connectClients, expectUnharmed, type Started, startVersions } from '../support/canary.ts'
import { startCluster } from '../support/cluster.ts'
import { startTestGateway } from '../support/in-process.ts'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'
import { RemoteCrowd } from '../support/remote-crowd.ts'

const pool = 'default'
const rebalance = { enabled: true, intervalMs: 1_000 }

test('1 % of 10,000 live sessions goes to a new version and comes back: none closed, nothing lost or doubled', async () => {
  const seed = testSeed('canary soak')
  await using cluster = await startCluster({ config: { rebalance } })
  for (const id of ['a', 'b', 'c']) await cluster.addNode({ id, version: '1' })
  await cluster.addNode({ id: 'new', version: '2', weight: 0.0001 })
  const { admin } = cluster
  const load = { clients: 10_000, messagesPerSecond: 1_000, mix: { stuckShare: 0 } }
  await using crowd = await RemoteCrowd.connect({ url: cluster.clientUrl, seed, ...load })
  await crowd.startSending()
  await crowd.answers(5_000)
  expect((await admin.node('new')).sessions).toBe(0)

  const order = { pool, version: '2', percent: 1, watchMs: 20_000 }
  const started = await admin.call<Started>('POST', '/canaries', order)
  const { id } = started.canary
  const get = () => admin.call<CanaryView>('GET', `/canaries/${id}`)
  const operation = async (of: string) => {
    await expect.poll(async () => (await admin.operation(of)).state, { timeout: 60_000 }).not.toBe('running')
    return admin.operation(of)
  }
  const there = await operation(started.id)
  const sessions = (await admin.node('new')).sessions
  await expect.poll(async () => (await get()).state, { timeout: 60_000 }).not.toBe('watching')
  const passed = await get()
  expect(passed).toMatchObject({ state: 'passed' })
  expect((await admin.node('new')).sessions).toBe(sessions)

  const back = await operation((await admin.call<Started>('POST', `/canaries/${id}/return`, {})).id)
  await expect.poll(async () => (await get()).state, { timeout: 60_000 }).toBe('returned')
  await crowd.fence()
  await crowd.settle()
  const clients = await crowd.verdict()
  const nodes = judgeHandlings(cluster.handlings())
  const { closed, sent, answered, lost, doubled, reordered } = clients
  const others = cluster.events
    .of('migration')
    .filter(({ at, reason }) => at > started.startedAt && reason !== 'canary')
  console.log(
    `canary: ${there.moved} of 10,000 moved (${there.failed} failed, pause p99 ${there.pauseMs?.p99} ms), ` +
      `${back.moved} returned (${back.failed} failed, p99 ${back.pauseMs?.p99} ms), ${closed.length} closed; ` +
      `${sent} messages, ${answered} answered, ${lost} lost, ${doubled} doubled, ${reordered} out of order; ` +
      `${others.length} moves for other reasons; ${passed.reason}`,
  )
  expect(Math.abs(there.moved - 100)).toBeLessThanOrEqual(20)
  expect(there).toMatchObject({ state: 'done', moved: sessions })
  expect(back).toMatchObject({ state: 'done', moved: there.moved })
  expect((await admin.node('new')).sessions).toBe(0)
  expect(clients).toMatchObject({ ...noFaults, clients: 10_000, closed: [], repeated: 0, notes: [] })
  expect(nodes).toMatchObject({ redelivered: 0, unmarked: 0, disordered: 0, overlapping: 0, notes: [] })
  // Rebalancing was on all the time, and had nothing to do.
  expect(others).toEqual([])
}, 600_000)

test('a version that is slow is left again', async () => {
  const gateway = await startTestGateway({ rebalance })
  await startVersions(gateway, {
    next: {
      async message(session, data) {
        await new Promise((resolve) => setTimeout(resolve, 25))
        session.send(data)
      },
    },
  })
  const api = new CanaryApi(gateway)
  const clients = await connectClients(gateway.wsUrl, 20)
  const started = await api.start({ pool, version: '2', percent: 50, watchMs: 60_000 })
  await api.ended(started)
  const timer = setInterval(() => {
    for (const client of clients) client.send()
  }, 100)
  const returned = await api.state(started.canary.id, 'returned')
  clearInterval(timer)
  expect(returned.reason).toContain('messages take')
  await expectUnharmed(clients)
}, 30_000)
