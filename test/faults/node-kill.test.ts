import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { SessionView } from '../../src/gateway/operator.ts'
import { startCluster } from '../support/cluster.ts'
import { Crowd } from '../support/crowd.ts'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { killAll, runNodeKills } from '../support/node-kill.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('node-kill')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 90_000
const nothingWrong = { ...noFaults, closed: [], notes: [] }
const inOrder = { unmarked: 0, disordered: 0, overlapping: 0, notes: [] }
const size = { clients: 60, messagesPerSecond: 300, nodes: 3, rounds: 4, answersPerRound: 150 }

describe('nodes are killed under load, one survives', () => {
  test(
    "delivery 'stream': nothing is lost, and what comes twice was redelivered",
    async () => {
      const { clients, nodes } = await runNodeKills({ seed, delivery: 'stream', ...size })
      expect(clients).toMatchObject(nothingWrong)
      expect(nodes).toMatchObject(inOrder)
      expect(nodes.redelivered).toBeGreaterThan(0)
    },
    timeoutMs,
  )

  test(
    "delivery 'atomic': nothing is lost, nothing comes twice, every count is exact",
    async () => {
      const { clients, nodes } = await runNodeKills({ seed, delivery: 'atomic', ...size })
      expect(clients).toMatchObject({ ...nothingWrong, repeated: 0 })
      expect(nodes).toMatchObject(inOrder)
      expect(nodes.redelivered).toBeGreaterThan(0)
      for (const { sent, count } of Object.values(clients.counts)) expect(count).toBe(sent)
    },
    timeoutMs,
  )
})

describe('no node is left', () => {
  test('clients are held, and what they send meanwhile is delivered to the next node', async () => {
    await using cluster = await startCluster()
    await Promise.all([cluster.addNode(), cluster.addNode()])
    const crowd = await Crowd.connect({ url: cluster.clientUrl, clients: 20, messagesPerSecond: 200, seed })
    try {
      crowd.startSending()
      await crowd.answers(50)
      await killAll(cluster, cluster.nodes)
      crowd.stopSending()
      for (let i = 0; i < 4; i++) crowd.sendAll()
      const waits = ({ state, uncommitted }: SessionView) => state === 'waiting' && uncommitted >= 4
      while (!(await cluster.admin.sessions()).every(waits));
      // Deadlines are looked at once a second; nothing may happen at the next one.
      await pause(1_500)
      await cluster.addNode({ id: 'c' })
      await crowd.settle()
      expect(crowd.verdict()).toMatchObject(nothingWrong)
      expect(judgeHandlings(cluster.handlings())).toMatchObject(inOrder)
      expect((await cluster.admin.node('c')).sessions).toBe(20)
    } finally {
      crowd.close()
    }
  })

  test('past holdMs they are closed with 1013', async () => {
    await using cluster = await startCluster({ config: { limits: { holdMs: 300 } } })
    await cluster.addNode({ id: 'a' })
    const crowd = await Crowd.connect({ url: cluster.clientUrl, clients: 5, messagesPerSecond: 0, seed })
    try {
      crowd.sendAll()
      await crowd.until(() => crowd.clients.every(({ ledger }) => ledger.outstanding === 0))
      await killAll(cluster, cluster.nodes)
      await crowd.until(() => crowd.clients.every(({ closedWith }) => closedWith !== null))
      expect(crowd.verdict().closed.map(({ code }) => code)).toEqual([1013, 1013, 1013, 1013, 1013])
      expect(cluster.events.of('session-lost')).toHaveLength(5)
      expect(await cluster.admin.sessions()).toEqual([])
    } finally {
      crowd.close()
    }
  })
})
