import { expect, test } from 'vitest'
import type { Operation } from '../../src/gateway/operator.ts'
import { type Cluster, startCluster } from '../support/cluster.ts'
import { Crowd } from '../support/crowd.ts'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('drain')
const nothingWrong = { ...noFaults, closed: [], notes: [] }
const inOrder = { unmarked: 0, disordered: 0, overlapping: 0, notes: [] }

interface Setting {
  config?: Record<string, unknown>
  tokens?: { node: string; admin: string }
  nodes: string[]
  clients: number
}

async function withCrowd(
  { nodes, clients, ...options }: Setting,
  act: (cluster: Cluster, crowd: Crowd) => Promise<void>,
): Promise<void> {
  await using cluster = await startCluster(options)
  await Promise.all(nodes.map((id) => cluster.addNode({ id })))
  const crowd = await Crowd.connect({ url: cluster.clientUrl, clients, messagesPerSecond: 200, seed })
  try {
    await act(cluster, crowd)
  } finally {
    crowd.close()
  }
}

/** Everybody is answered, and neither the clients nor the nodes have seen anything wrong or anything twice. */
async function expectNothingHappened(cluster: Cluster, crowd: Crowd): Promise<void> {
  await crowd.settle()
  expect(crowd.verdict()).toMatchObject({ ...nothingWrong, repeated: 0 })
  expect(judgeHandlings(cluster.handlings())).toMatchObject({ ...inOrder, redelivered: 0 })
}

async function ended(cluster: Cluster, { id }: Operation): Promise<Operation> {
  const fits = (event: { operation: Operation }) =>
    event.operation.id === id && event.operation.state !== 'running'
  return (await cluster.events.find('operation', fits, { what: `the end of ${id}` })).operation
}

async function sessionsByNode(cluster: Cluster): Promise<Record<string, number>> {
  return Object.fromEntries((await cluster.admin.nodes()).map(({ id, sessions }) => [id, sessions]))
}

test('SIGTERM moves everything away, then the node exits with 0', async () => {
  const tokens = { node: 'for-nodes', admin: 'for-operators' }
  await withCrowd({ tokens, nodes: ['a', 'b', 'c'], clients: 60 }, async (cluster, crowd) => {
    crowd.startSending()
    await crowd.answers(100)
    expect(await cluster.nodes[0]!.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    await crowd.answers(100)
    await expectNothingHappened(cluster, crowd)
    const drain = cluster.events.of('operation').find(({ operation }) => operation.kind === 'drain')!
    expect(await ended(cluster, drain.operation)).toMatchObject({ subject: 'a', state: 'done', moved: 20 })
    expect(await sessionsByNode(cluster)).toEqual({ b: 30, c: 30 })
  })
})

test('a node that was drained and activated before drains again on SIGTERM', async () => {
  await withCrowd({ nodes: ['a', 'b'], clients: 30 }, async (cluster, crowd) => {
    const { admin, events } = cluster
    crowd.startSending()
    expect(await ended(cluster, await admin.drain('a'))).toMatchObject({ state: 'done', moved: 15 })
    expect(await sessionsByNode(cluster)).toEqual({ a: 0, b: 30 })
    await admin.activate('a')
    await events.find(
      'operation',
      ({ operation: { kind, state } }) => kind === 'rebalance' && state === 'done',
    )
    const { a } = await sessionsByNode(cluster)
    expect(a).toBeGreaterThan(0)
    expect(await cluster.nodes[0]!.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    const [, second] = events
      .of('operation')
      .filter(({ operation: { kind, state } }) => kind === 'drain' && state !== 'running')
    expect(second?.operation).toMatchObject({ state: 'done', moved: a })
    await crowd.answers(50)
    await expectNothingHappened(cluster, crowd)
  })
})

test('clients that connect while a node begins to drain are served elsewhere', async () => {
  await withCrowd({ nodes: ['a', 'b', 'c'], clients: 10 }, async (cluster, crowd) => {
    crowd.startSending()
    for (const node of cluster.nodes.slice(0, 2)) {
      const joining = crowd.join(150)
      const exit = node.kill('SIGTERM')
      await joining
      expect(await exit).toEqual({ code: 0, signal: null })
    }
    crowd.sendAll()
    await expectNothingHappened(cluster, crowd)
    expect(await sessionsByNode(cluster)).toEqual({ c: 310 })
  })
})

test('past its deadline a drain takes sessions away from handlers that never end', async () => {
  const config = { limits: { quiesceMs: 100 } }
  await withCrowd({ config, nodes: ['a'], clients: 5 }, async (cluster, crowd) => {
    const { admin, events } = cluster
    for (const client of crowd.clients) client.send({ hang: true, pushes: 1 })
    await crowd.until(() => crowd.clients.every(({ session }) => session !== ''), {
      what: 'the hanging handlers',
    })
    await cluster.addNode({ id: 'b' })
    for (const client of crowd.clients) client.send()
    const operation = await ended(cluster, await admin.drain('a', { deadlineMs: 1_000 }))
    expect(operation).toMatchObject({ state: 'done', moved: 0 })
    expect(
      events.of('migration').filter(({ outcome }) => outcome === 'quiesce-timeout').length,
    ).toBeGreaterThan(0)
    expect((await admin.node('a')).state).toBe('drained')

    await crowd.settle()
    // Each hanging message was handled again, and so was the push that it had made before it hung.
    expect(crowd.verdict()).toMatchObject({ ...nothingWrong, repeated: 5 })
    const handled = judgeHandlings(cluster.handlings())
    expect(handled).toMatchObject(inOrder)
    expect(handled.redelivered).toBeGreaterThanOrEqual(5)
  })
})

test('a drain keeps to its rate; activate calls it off', async () => {
  const ratePerSecond = 20
  await withCrowd({ nodes: ['a', 'b'], clients: 60 }, async (cluster, crowd) => {
    const { admin, events } = cluster
    crowd.startSending()
    const drain = await admin.drain('a', { ratePerSecond })
    const moves = () => events.of('migration').filter(({ reason }) => reason === 'drain')
    await events.until(() => moves().length >= 10, { what: 'the first moves' })
    await admin.activate('a')
    const operation = await ended(cluster, drain)
    expect(operation).toMatchObject({ kind: 'drain', state: 'cancelled', total: 30 })
    expect(operation.moved).toBeLessThan(30)
    // A bound from above holds however slow this machine is; a clock of whole milliseconds may cut one more move off.
    for (const [index, { at }] of moves().entries()) {
      expect(index + 1).toBeLessThanOrEqual(((at - operation.startedAt + 1) / 1000) * ratePerSecond + 1)
    }
    await events.find(
      'operation',
      ({ operation: { kind, state } }) => kind === 'rebalance' && state === 'done',
    )
    const { a } = await sessionsByNode(cluster)
    expect(Math.abs(a! - 30)).toBeLessThanOrEqual(1)
    await expectNothingHappened(cluster, crowd)
  })
})
