import type { Delivery } from 'evenkeel/sdk'
import { type Cluster, type ClusterNode, startCluster } from './cluster.ts'
import type { CrowdVerdict } from './crowd.ts'
import { type HandlingVerdict, judgeHandlings } from './ledger.ts'
import { createRandom } from './random.ts'
import { RemoteCrowd } from './remote-crowd.ts'

export interface NodeKillOptions {
  seed: number
  delivery: Delivery
  clients: number
  messagesPerSecond: number
  nodes: number
  rounds: number
  /** Messages to be answered before the next round. */
  answersPerRound: number
}

export interface NodeKillReport {
  kills: number
  clients: CrowdVerdict
  nodes: HandlingVerdict
  /** Moves that lost their source or their target on the way. */
  movesHit: number
}

/** Kills nodes under load, round by round, always leaving at least one and always filling up again. */
export async function runNodeKills(options: NodeKillOptions): Promise<NodeKillReport> {
  const { seed, delivery, nodes, rounds } = options
  const random = createRandom(seed)
  await using cluster = await startCluster()
  const addNode = (id?: string) =>
    cluster.addNode({ delivery, weight: random.int(1, 3), ...(id === undefined ? {} : { id }) })
  await Promise.all(Array.from({ length: nodes }, () => addNode()))
  const { clients, messagesPerSecond } = options
  // Handlers that take a while, so that there is always something in flight.
  const mix = { slowShare: 0.7, slowMs: 60 }
  await using crowd = await RemoteCrowd.connect({
    url: cluster.clientUrl,
    clients,
    messagesPerSecond,
    seed,
    mix,
  })
  await crowd.startSending()
  let kills = 0
  for (let round = 0; round < rounds; round++) {
    await crowd.answers(options.answersPerRound)
    const alive = cluster.nodes.filter((node) => node.running)
    const victims = random.sample(alive, random.int(1, alive.length - 1))
    // Half of the time sessions are being moved from a node that dies, or to one, when it happens.
    const drained = random.chance(0.5) ? random.pick(alive) : null
    if (drained !== null) await cluster.admin.drain(drained.id)
    await killAll(cluster, victims)
    kills += victims.length
    await Promise.all(victims.map(({ id }) => addNode(random.chance(0.5) ? id : undefined)))
    if (drained?.running === true) await cluster.admin.activate(drained.id)
    // Before the next kill, which would help a session that is stuck now.
    await crowd.fence()
  }
  await crowd.answers(options.answersPerRound)
  await crowd.settle()
  return {
    kills,
    clients: await crowd.verdict(),
    nodes: judgeHandlings(cluster.handlings()),
    movesHit: cluster.events.of('migration').filter(({ outcome }) => outcome.endsWith('-lost')).length,
  }
}

/** All at the same moment; resolves when the gateway knows. */
export async function killAll(cluster: Cluster, victims: readonly ClusterNode[]): Promise<void> {
  const downs = () => cluster.events.of('node-down').length
  const before = downs()
  for (const victim of victims) victim.signal('SIGKILL')
  await cluster.events.until(() => downs() >= before + victims.length, {
    what: `${victims.length} nodes down`,
  })
}
