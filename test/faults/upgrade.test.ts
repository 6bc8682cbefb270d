import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { machineTime } from '../support/resumable-client.ts'
import {
  atomicNodes,
  books,
  handledOnce,
  nothingWrong,
  startCluster,
  startCrowd,
} from '../support/resumable-scene.ts'

const seed = testSeed('upgrade')
const clients = 40

test('every gateway and every node is replaced under load: nobody loses anything', async () => {
  const cluster = await startCluster({
    gateways: 2,
    nodes: atomicNodes(2),
    config: { limits: { gatewayDrainMs: 500, resumeSpreadMs: 300 } },
  })
  const crowd = await startCrowd(cluster, { clients, seed })

  // As docs/operating.md tells operators: the new one is ready before the old one is told to go.
  for (const old of cluster.runningGateways) {
    await cluster.addGateway()
    old.signal('SIGTERM')
    expect(await old.exited).toMatchObject({ code: 0 })
    await crowd.answers(clients)
  }
  const nodesFrom = machineTime()
  for (const old of cluster.runningNodes) {
    await cluster.addNode({ delivery: 'atomic' })
    old.signal('SIGTERM')
    expect(await old.exited).toMatchObject({ code: 0 })
    await crowd.answers(clients)
  }

  const report = await books(cluster, crowd)
  expect(report.clients).toMatchObject({ ...nothingWrong, open: clients, committed: report.clients.sent })
  expect(report.nodes).toMatchObject({ ...handledOnce, handled: report.clients.sent })
  expect(report.clients.resumes).toBeGreaterThanOrEqual(clients)
  // Replacing nodes sends nobody away.
  expect((await crowd.attempts(nodesFrom)).flat()).toEqual([])
  console.log(`upgrade: ${report.clients.sent} messages, ${report.clients.resumes} resumes`)
}, 120_000)
