import { setTimeout as pause } from 'node:timers/promises'
import type { ClusterNode } from './cluster.ts'
import type { Random } from './random.ts'
import { machineTime } from './resumable-client.ts'
import type { ResumableCluster } from './resumable-cluster.ts'
import type { ClusterGateway } from './resumable-gateway.ts'

export const faultKinds = [
  'gateway killed',
  'gateway drained',
  'gateway started',
  'node killed',
  'node terminated',
  'node drained',
  'node started',
  'Redis restarted',
] as const
export type FaultKind = (typeof faultKinds)[number]

export interface ChaosLimits {
  gatewaysLeast: number
  gatewaysMost: number
  nodesLeast: number
  nodesMost: number
}

const redisAwayMsMost = 1_500
const drainMs = 30_000
/** Before it would be suspect. */
const frozenMsMost = 500

/** What machines, deploys and operators do to a cluster. Each fault ends when its own work is done; recovery is another matter. */
export class ChaosFaults {
  readonly done: Record<string, number> = {}
  /** Ids of gateways and nodes that were ended. */
  private readonly ended = new Set<string>()
  /** When those that were killed were, by id, on the machine's clock. */
  readonly kills = { nodes: new Map<string, number>(), gateways: new Map<string, number>() }
  /** When Redis lost its data, on the machine's clock. */
  readonly lossesAt: number[] = []
  private readonly cluster: ResumableCluster
  private readonly random: Random
  private readonly limits: ChaosLimits
  private readonly acts: Record<FaultKind, () => Promise<void>> = {
    'gateway killed': () => this.endGateway('SIGKILL'),
    'gateway drained': () => this.endGateway('SIGTERM'),
    'gateway started': async () => void (await this.cluster.addGateway()),
    'node killed': () => this.endNode('SIGKILL'),
    'node terminated': () => this.endNode('SIGTERM'),
    'node drained': () => this.drainNode(),
    'node started': () => this.startNode(),
    'Redis restarted': () => this.restartRedis(),
  }

  constructor(cluster: ResumableCluster, random: Random, limits: ChaosLimits) {
    this.cluster = cluster
    this.random = random
    this.limits = limits
  }

  /** What can be done now. */
  possible(): FaultKind[] {
    const { gatewaysLeast, gatewaysMost, nodesLeast, nodesMost } = this.limits
    const gateways = this.cluster.runningGateways.length
    const nodes = this.cluster.runningNodes.length
    return faultKinds.filter((kind) => {
      if (kind === 'Redis restarted') return true
      if (kind === 'gateway started') return gateways < gatewaysMost
      if (kind === 'node started') return nodes < nodesMost
      return kind.startsWith('gateway') ? gateways > gatewaysLeast : nodes > nodesLeast
    })
  }

  /** Gateways and nodes that have ended by themselves, with their last words. */
  crashed(): string[] {
    const { gateways, nodes } = this.cluster
    const crashed = [...gateways, ...nodes].filter(({ id, running }) => !running && !this.ended.has(id))
    return crashed.map((process) => `${process.id}:\n${process.log()}`)
  }

  async perform(kind: FaultKind): Promise<void> {
    await this.acts[kind]()
    this.done[kind] = (this.done[kind] ?? 0) + 1
  }

  private async endGateway(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const gateway = await this.pickGateway()
    // A balancer sees that a gateway leaves, or it does not.
    if (signal === 'SIGTERM' && this.random.chance(0.5)) await this.cluster.shun(gateway)
    await this.end(gateway, signal)
  }

  /** Mostly the one with the most clients: those that were started late have none. */
  private async pickGateway(): Promise<ClusterGateway> {
    const gateways = this.cluster.runningGateways
    if (this.random.chance(0.3)) return this.random.pick(gateways)
    const loads = await Promise.all(gateways.map(async (gateway) => (await gateway.sessions()).length))
    return gateways[loads.indexOf(Math.max(...loads))]!
  }

  private async endNode(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const { random, cluster } = this
    const node = random.pick(cluster.runningNodes)
    if (signal === 'SIGKILL' && random.chance(0.5)) {
      // So that it dies with messages that it has not handled.
      node.signal('SIGSTOP')
      await pause(random.int(20, frozenMsMost))
    }
    await this.end(node, signal)
  }

  /** By an operator, at any gateway; then the node goes on, or ends. */
  private async drainNode(): Promise<void> {
    const { random, cluster } = this
    const node = random.pick(cluster.runningNodes)
    const { admin } = random.pick(cluster.runningGateways)
    const { id } = await admin.drain(node.id)
    for (const until = performance.now() + drainMs; ; await pause(50)) {
      const { state } = await admin.operation(id)
      if (state === 'done') break
      if (state !== 'running') throw new Error(`drain of ${node.id}: ${state}`)
      if (performance.now() > until) throw new Error(`drain of ${node.id} is not done after ${drainMs} ms`)
    }
    if (random.chance(0.5)) await admin.activate(node.id)
    else await this.end(node, 'SIGTERM')
  }

  private async startNode(): Promise<void> {
    await this.cluster.addNode({ delivery: 'atomic', weight: this.random.int(1, 3) })
  }

  private async restartRedis(): Promise<void> {
    const { redis } = this.cluster
    this.lossesAt.push(machineTime())
    await redis.kill()
    await pause(this.random.int(0, redisAwayMsMost))
    await redis.restart()
  }

  private async end(process: ClusterNode | ClusterGateway, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.ended.add(process.id)
    const kills = 'readiness' in process ? this.kills.gateways : this.kills.nodes
    if (signal === 'SIGKILL') kills.set(process.id, machineTime())
    const exit = await process.kill(signal)
    if (signal === 'SIGTERM' && exit.code !== 0)
      throw new Error(`${process.id} ended with ${JSON.stringify(exit)}:\n${process.log()}`)
  }
}
