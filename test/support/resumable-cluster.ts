import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { SessionView } from '../../src/gateway/operator.ts'
import { Balancer } from './balancer.ts'
import type { Share } from './churn.ts'
import { type ClusterNode, ledgerFile, type NodeSettings, readLedgers, startNode } from './cluster.ts'
import type { Handling } from './ledger-message.ts'
import { type Child, kill } from './processes.ts'
import { RedisServer } from './redis.ts'
import { type ClusterGateway, launchGateway } from './resumable-gateway.ts'

export interface ResumableClusterOptions {
  gateways: number
  nodes: NodeSettings[]
  /** The script of all nodes; see `NodeSettings.app`. */
  nodeApp?: string
  /** What the one configuration file of all gateways says. */
  config?: Record<string, unknown>
}

const pollMs = 50

/** Gateways and nodes that meet in a Redis, and one address for clients: every part a process of its own, on 127.0.0.1. */
export class ResumableCluster implements AsyncDisposable {
  readonly redis: RedisServer
  readonly balancer: Balancer
  /** Living or not. */
  readonly gateways: ClusterGateway[] = []
  readonly nodes: ClusterNode[] = []
  private readonly directory: string
  private readonly configFile: string
  private readonly nodeApp: string | undefined
  /** Gateway processes, also those that are not ready. */
  private readonly children: Child[] = []
  /** Running gateways that get no new clients. */
  private readonly shunned = new Set<ClusterGateway>()

  private constructor(
    redis: RedisServer,
    balancer: Balancer,
    { config = {}, nodeApp }: ResumableClusterOptions,
  ) {
    this.redis = redis
    this.balancer = balancer
    this.nodeApp = nodeApp
    this.directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-resumable-'))
    this.configFile = path.join(this.directory, 'gateway.json')
    writeFileSync(this.configFile, JSON.stringify(config))
  }

  static async start(options: ResumableClusterOptions): Promise<ResumableCluster> {
    const { gateways, nodes } = options
    const [redis, balancer] = await Promise.all([RedisServer.start(), Balancer.start()])
    const cluster = new ResumableCluster(redis, balancer, options)
    try {
      await Promise.all([
        ...Array.from({ length: gateways }, () => cluster.addGateway()),
        ...nodes.map((settings) => cluster.addNode(settings)),
      ])
      await cluster.whole()
      return cluster
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  get clientUrl(): string {
    return `ws://127.0.0.1:${this.balancer.port}/ws`
  }

  get runningGateways(): ClusterGateway[] {
    return this.gateways.filter(({ running }) => running)
  }

  get runningNodes(): ClusterNode[] {
    return this.nodes.filter(({ running }) => running)
  }

  /** New clients come to it as soon as it is ready. */
  async addGateway(): Promise<ClusterGateway> {
    const id = `g${this.children.length + 1}`
    const { child, ready } = launchGateway(id, this.configFile, this.redis.url)
    this.children.push(child)
    const gateway = await ready
    this.gateways.push(gateway)
    await this.retarget()
    return gateway
  }

  async addNode(settings: NodeSettings = {}): Promise<ClusterNode> {
    const id = settings.id ?? `n${this.nodes.length + 1}`
    const app = this.nodeApp === undefined ? {} : { app: this.nodeApp }
    const { node, ready } = startNode(id, { ...app, ...settings }, { redis: this.redis.url }, this.directory)
    this.nodes.push(node)
    await ready
    return node
  }

  /** New clients do not come to it any more, as if a balancer had seen that it is not well. */
  async shun(gateway: ClusterGateway): Promise<void> {
    this.shunned.add(gateway)
    await this.retarget()
  }

  /** New clients come to it again. */
  async admit(gateway: ClusterGateway): Promise<void> {
    this.shunned.delete(gateway)
    await this.retarget()
  }

  /** Resolves when every gateway has every node and the Redis, and no node that is gone. */
  async whole(timeoutMs = 30_000): Promise<void> {
    const until = performance.now() + timeoutMs
    for (;;) {
      const trouble = await this.trouble()
      if (trouble === null) return
      if (performance.now() > until) throw new Error(`not whole after ${timeoutMs} ms: ${trouble}`)
      await pause(pollMs)
    }
  }

  /** Sessions of the active nodes, over all gateways, as one of these sees it. */
  async shares(): Promise<Share[]> {
    const active = (await this.runningGateways[0]!.admin.nodes()).filter(({ state }) => state === 'active')
    const sessions = active.reduce((sum, node) => sum + node.sessions, 0)
    const weights = active.reduce((sum, node) => sum + node.weight, 0)
    return active.map((node) => ({
      node: node.id,
      weight: node.weight,
      sessions: node.sessions,
      fair: (sessions * node.weight) / weights,
    }))
  }

  /** What the running gateways have. */
  async sessions(): Promise<SessionView[]> {
    return (await Promise.all(this.runningGateways.map((gateway) => gateway.sessions()))).flat()
  }

  /** What all nodes so far, living or dead, have handled. */
  handlings(): Handling[] {
    return readLedgers(this.directory, this.nodes)
  }

  /** What nodes with an application of their own have written. */
  ledgerLines(): string[] {
    const files = this.nodes
      .map(({ id }) => ledgerFile(this.directory, id))
      .filter((file) => existsSync(file))
    return files.flatMap((file) => readFileSync(file, 'utf8').split('\n').filter(Boolean))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { events } of this.gateways) events.close()
    await Promise.all([
      ...this.children.map((child) => kill(child)),
      ...this.nodes.map((node) => node.kill()),
    ])
    await Promise.all([this.balancer[Symbol.asyncDispose](), this.redis.stop()])
    rmSync(this.directory, { recursive: true })
  }

  private retarget(): Promise<void> {
    const targets = this.gateways.filter((gateway) => !this.shunned.has(gateway))
    return this.balancer.setTargets(targets.map(({ publicPort }) => publicPort))
  }

  private async trouble(): Promise<string | null> {
    const wanted = this.runningNodes.map(({ id }) => id).toSorted()
    for (const { id, admin, readiness } of this.runningGateways) {
      try {
        const { reasons } = await readiness()
        if (reasons.length > 0) return `${id}: ${reasons.join(', ')}`
        const linked = (await admin.nodes())
          .filter(({ health }) => health === 'healthy')
          .map((node) => node.id)
        if (linked.toSorted().join() !== wanted.join()) return `${id} has ${linked}, not ${wanted}`
      } catch (error) {
        return `${id}: ${error}`
      }
    }
    return null
  }
}
