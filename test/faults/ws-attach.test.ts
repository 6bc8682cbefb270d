import { expect, test } from 'vitest'
import type { Operation } from '../../src/gateway/operator.ts'
import { type Cluster, startCluster } from '../support/cluster.ts'
import { Crowd } from '../support/crowd.ts'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { killAll } from '../support/node-kill.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('ws-attach')
const nothingWrong = { ...noFaults, closed: [], notes: [] }
const inOrder = { unmarked: 0, disordered: 0, overlapping: 0, notes: [] }
const app = 'test/support/ws-ledger-node.ts'
const mix = { largeShare: 0.03, largePadBytes: 200_000 }

async function withCrowd(
  { nodes, clients, chatty = false }: { nodes: string[]; clients: number; chatty?: boolean },
  act: (cluster: Cluster, crowd: Crowd) => Promise<void>,
): Promise<void> {
  await using cluster = await startCluster()
  await Promise.all(nodes.map((id) => cluster.addNode({ id, app, chatty })))
  const crowd = await Crowd.connect({ url: cluster.clientUrl, clients, messagesPerSecond: 200, seed, mix })
  try {
    await act(cluster, crowd)
  } finally {
    crowd.close()
  }
}

async function ended(cluster: Cluster, { id }: Operation): Promise<Operation> {
  const fits = (event: { operation: Operation }) =>
    event.operation.id === id && event.operation.state !== 'running'
  return (await cluster.events.find('operation', fits, { what: `the end of ${id}` })).operation
}

async function sessionsByNode(cluster: Cluster): Promise<Record<string, number>> {
  return Object.fromEntries((await cluster.admin.nodes()).map(({ id, sessions }) => [id, sessions]))
}

test('ws applications are drained under load, there and back again: every message once, in order, with its state', async () => {
  await withCrowd({ nodes: ['a', 'b'], clients: 40 }, async (cluster, crowd) => {
    crowd.startSending()
    await crowd.answers(100)
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
      ['a', 'b'],
    ] as const) {
      expect(await ended(cluster, await cluster.admin.drain(from))).toMatchObject({ state: 'done' })
      expect(await sessionsByNode(cluster)).toEqual({ [from]: 0, [to]: 40 })
      await crowd.answers(100)
      await cluster.admin.activate(from)
    }
    await crowd.settle()
    expect(crowd.verdict()).toMatchObject({ ...nothingWrong, repeated: 0 })
    expect(judgeHandlings(cluster.handlings())).toMatchObject({ ...inOrder, redelivered: 0 })
    for (const { sent, count } of Object.values(crowd.verdict().counts)) expect(count).toBe(sent)
  })
})

test('SIGTERM: the application of one line leaves when its sessions have', async () => {
  await withCrowd({ nodes: ['a', 'b', 'c'], clients: 30 }, async (cluster, crowd) => {
    crowd.startSending()
    await crowd.answers(50)
    expect(await cluster.nodes[0]!.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    await crowd.answers(50)
    await crowd.settle()
    expect(crowd.verdict()).toMatchObject({ ...nothingWrong, repeated: 0 })
    expect(await sessionsByNode(cluster)).toEqual({ b: 15, c: 15 })
  })
})

test('a node is killed: nothing is lost, and what comes twice was redelivered', async () => {
  await withCrowd({ nodes: ['a', 'b', 'c'], clients: 30, chatty: true }, async (cluster, crowd) => {
    crowd.startSending()
    for (const victim of cluster.nodes.slice(0, 2)) {
      await crowd.answers(100)
      await killAll(cluster, [victim])
      await crowd.fence()
    }
    await crowd.settle()
    expect(crowd.verdict()).toMatchObject(nothingWrong)
    // A handler of ws is over at once, so a kill seldom finds one in flight.
    expect(judgeHandlings(cluster.handlings())).toMatchObject(inOrder)
  })
})

test('clients that do not read while their node is drained miss nothing when they read again', async () => {
  await withCrowd({ nodes: ['a', 'b'], clients: 10 }, async (cluster, crowd) => {
    for (const client of crowd.clients) {
      client.stopReading()
      for (let i = 0; i < 24; i++) client.send({ pushes: 1 }, 200_000, i % 2 === 0)
    }
    const drain = await cluster.admin.drain('a')
    await cluster.events.until(() => cluster.events.of('migration').length > 0, { what: 'a first try' })
    for (const client of crowd.clients) client.goOnReading()
    expect(await ended(cluster, drain)).toMatchObject({ state: 'done' })
    await crowd.settle()
    expect(crowd.verdict()).toMatchObject({ ...nothingWrong, repeated: 0 })
    expect(judgeHandlings(cluster.handlings())).toMatchObject({ ...inOrder, redelivered: 0 })
  })
})
