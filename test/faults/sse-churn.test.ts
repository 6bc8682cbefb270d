import { expect, onTestFinished, test } from 'vitest'
import { judgeHandlings, noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'
import { atomicNodes, handledOnce, startCluster } from '../support/resumable-scene.ts'
import { SseCrowd } from '../support/sse-crowd.ts'

const seed = testSeed('sse-churn')
const nothingWrong = { ...noFaults, closed: 0, notRecovered: [], gaps: 0, repeated: 0, notes: [] }

/** Real EventSource clients, and gateways and nodes as processes; posts go to any gateway. */
async function scene(gateways: number, nodes: number, clients: number) {
  const limits = { resumeSpreadMs: 300, gatewayDrainMs: 500 }
  const cluster = await startCluster({ gateways, nodes: atomicNodes(nodes), config: { limits } })
  const crowd = await SseCrowd.connect(`http://127.0.0.1:${cluster.balancer.port}/sse`, clients, seed)
  onTestFinished(() => crowd.close())
  crowd.startSending(20)
  await crowd.answers(2)
  return { cluster, crowd }
}

test('gateways killed and drained, one after the other: EventSource goes on, nothing lost or doubled', async () => {
  const { cluster, crowd } = await scene(2, 2, 24)
  const [first, second] = cluster.gateways
  const atFirst = (await first!.sessions()).length
  expect(atFirst).toBeGreaterThan(0)
  await first!.kill()
  await crowd.until(() => crowd.resumes >= atFirst, { what: 'everyone to resume' })
  await crowd.answers(3)
  const third = await cluster.addGateway()
  await cluster.whole()
  await cluster.shun(second!)
  const { code } = await second!.kill('SIGTERM')
  expect(code, second!.log()).toBe(0)
  await crowd.answers(3)
  expect(await third.sessions()).toHaveLength(24)
  await crowd.settle()
  const verdict = crowd.verdict()
  console.log(
    `sse-churn: ${verdict.sent} messages, ${verdict.resumes} resumes, retried ${JSON.stringify(verdict.retried)}`,
  )
  expect(verdict).toMatchObject(nothingWrong)
  expect(judgeHandlings(cluster.handlings())).toMatchObject({ ...handledOnce, handled: verdict.sent })
}, 90_000)

test('sessions are moved, a node is drained, another one is killed: the streams stay, nothing lost or doubled', async () => {
  const { cluster, crowd } = await scene(1, 3, 24)
  const [gateway] = cluster.gateways
  const ids = cluster.nodes.map(({ id }) => id)
  for (const { id, node } of await gateway!.sessions())
    await gateway!.admin.migrate(id, ids[(ids.indexOf(node!) + 1) % ids.length]!)
  await crowd.answers(2)
  expect((await cluster.nodes[0]!.kill('SIGTERM')).code).toBe(0)
  await crowd.answers(2)
  await cluster.nodes[1]!.kill('SIGKILL')
  await crowd.answers(2)
  await crowd.settle()
  const verdict = crowd.verdict()
  expect(verdict).toMatchObject({ ...nothingWrong, resumes: 0 })
  expect(judgeHandlings(cluster.handlings())).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0 })
}, 90_000)
