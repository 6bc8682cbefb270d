import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { atomicNodes, startCluster } from '../support/resumable-scene.ts'
import { SseCrowd } from '../support/sse-crowd.ts'

const seed = testSeed('sse-chaos')
const runMs = 120_000
const clients = 60

test('EventSource clients under faults of all kinds for two minutes: nothing lost, doubled or passed over in silence', async () => {
  const random = createRandom(seed)
  const limits = { resumeSpreadMs: 300, gatewayDrainMs: 500 }
  const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(3), config: { limits } })
  const crowd = await SseCrowd.connect(`http://127.0.0.1:${cluster.balancer.port}/sse`, clients, seed)
  onTestFinished(() => crowd.close())
  crowd.startSending(20)
  const gateway = () => random.pick(cluster.runningGateways)
  const node = () => random.pick(cluster.runningNodes)
  const counts: Record<string, number> = {}
  const faults: Record<string, () => Promise<void>> = {
    'gateway killed': async () => {
      await gateway().kill()
      await cluster.addGateway()
    },
    'gateway drained': async () => {
      const leaving = gateway()
      await cluster.shun(leaving)
      expect((await leaving.kill('SIGTERM')).code, leaving.log()).toBe(0)
      await cluster.addGateway()
    },
    'gateway stopped': async () => {
      const stopped = gateway()
      stopped.signal('SIGSTOP')
      await pause(random.int(100, 1_500))
      stopped.signal('SIGCONT')
    },
    'streams cut': async () => void (await cluster.balancer.cut(gateway().publicPort)),
    'node killed': async () => {
      await node().kill()
      await cluster.addNode({ delivery: 'atomic' })
    },
    'node drained': async () => {
      expect((await node().kill('SIGTERM')).code).toBe(0)
      await cluster.addNode({ delivery: 'atomic' })
    },
    'sessions moved': async () => {
      const { admin, sessions } = gateway()
      const to = node().id
      for (const { id, node: from } of await sessions())
        if (from !== to) await admin.migrate(id, to).catch(() => {})
    },
  }
  const until = performance.now() + runMs
  while (performance.now() < until) {
    const name = random.pick(Object.keys(faults))
    counts[name] = (counts[name] ?? 0) + 1
    await faults[name]!()
    await crowd.answers(1)
    await cluster.whole()
  }
  await crowd.settle()
  const verdict = crowd.verdict()
  console.log(
    `sse-chaos: ${JSON.stringify({ ...counts, sent: verdict.sent, resumes: verdict.resumes, retried: verdict.retried })}`,
  )
  expect(verdict).toMatchObject({ ...noFaults, closed: 0, notRecovered: [], gaps: 0, notes: [] })
  expect(judgeHandlings(cluster.handlings())).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0 })
}, 400_000)
