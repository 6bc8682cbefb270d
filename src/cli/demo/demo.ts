import { setTimeout as delay } from 'node:timers/promises'
import type { DemoAction, DemoAnswer } from '../../../client/demo/words.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { DemoOptions } from '../commands/demo.ts'
import { CommandFailed } from '../errors.ts'
import { percent } from '../output.ts'
import { Clients } from './clients.ts'
import { type DemoCluster, openCluster } from './cluster.ts'
import { Monitor } from './monitor.ts'
import { Nodes } from './nodes.ts'
import { notReady } from './pages.ts'

const nodesUpMs = 60_000
const nodesLookMs = 50

/** Gateways, their nodes and their clients. */
export class Demo {
  readonly cluster: DemoCluster
  readonly clients: Clients
  readonly monitor: Monitor
  /** When all was up; null before. */
  readyAt: number | null = null
  /** Rejects with what makes it impossible to go on. */
  readonly failure: Promise<never>
  private readonly fail: (error: CommandFailed) => void
  private readonly nodes: Nodes
  private readonly weights: readonly number[]
  private closing = false

  /** Opens the gateways. Throws ConfigError or CommandFailed. */
  static async open(options: DemoOptions): Promise<Demo> {
    return new Demo(options, await openCluster(options))
  }

  private constructor({ weights, clients }: DemoOptions, cluster: DemoCluster) {
    const { promise, reject } = Promise.withResolvers<never>()
    this.failure = promise
    this.fail = reject
    // Whoever waits for it hears of it; that nobody does yet is no reason to crash.
    promise.catch(() => {})
    this.cluster = cluster
    this.weights = weights
    this.monitor = new Monitor(cluster)
    this.nodes = new Nodes(cluster, (id, how) => this.ended(id, how))
    cluster.onControl((action) => this.control(action))
    cluster.onUnexpectedEnd((what, how) => this.ended(what, how))
    this.clients = new Clients(clients)
    void this.clients.ended.then((how) => this.fail(new CommandFailed(`The clients' process ${how}.`)))
  }

  /** Starts the nodes and, once they are up, lets the clients connect. Throws CommandFailed. */
  async populate(): Promise<void> {
    const ids = this.weights.map((weight) => this.nodes.add(weight))
    const startedAt = performance.now()
    for (;;) {
      const up = new Set(this.cluster.nodes().flatMap(({ id, health }) => (health === 'healthy' ? id : [])))
      const missing = ids.filter((id) => !up.has(id))
      if (missing.length === 0) break
      if (performance.now() - startedAt > nodesUpMs) {
        const names = missing.join(', ')
        throw new CommandFailed(`Not up after ${nodesUpMs / 1000} s: ${names}. Is this machine too busy?`)
      }
      await Promise.race([delay(nodesLookMs), this.failure])
    }
    this.readyAt = Date.now()
    this.clients.connect(
      this.cluster.gateways().map(({ publicUrl }) => `${publicUrl.replace('http', 'ws')}/ws`),
    )
  }

  /** What the key does, or nothing. */
  press(key: string): void {
    if (this.readyAt === null || this.closing) return
    if (key === 'a') this.addNode()
    else if (key === 'k') this.killNode()
    else if (key === 'd') this.drainNode()
    else if (key === 'r') void this.rebalance()
  }

  /** Ends everything without asking anybody. */
  async close(): Promise<void> {
    this.closing = true
    this.fail(new CommandFailed('The demo was ended.'))
    await Promise.all([this.clients.kill(), this.nodes.killAll(), this.cluster.close()])
  }

  /** What the page asks for. */
  private async control(action: DemoAction): Promise<DemoAnswer> {
    if (this.readyAt === null || this.closing) throw notReady()
    const text = await this.act(action)
    if (text !== '') this.monitor.note({ text: `page: ${text}`, colour: 'yellow' })
    return { text, cluster: this.cluster.redisUrl !== null }
  }

  private async act(action: DemoAction): Promise<string> {
    if (action.do === 'look') return ''
    if (action.do === 'kill-node') return this.replaceNode(action.node)
    if (action.do === 'migrate') return this.migrate(action.session)
    if (action.do !== 'kill-gateway')
      throw new EvenkeelError('BAD_REQUEST', 'nothing of the kind can be done')
    const killed = await this.cluster.killGatewayOf(action.session)
    if (killed === null)
      throw new EvenkeelError('CONFLICT', 'there is no other gateway; try npm start -- --redis')
    return `${killed}: SIGKILL, the next one starts in a few seconds`
  }

  private replaceNode(id: string): string {
    const weight = this.nodes.kill(id)
    if (weight === null) throw new EvenkeelError('CONFLICT', `${id} is gone already, or the only one`)
    return `${id}: SIGKILL, ${this.nodes.add(weight)} starts in its place`
  }

  private async migrate(session: string): Promise<string> {
    const from = await this.cluster.nodeOf(session)
    const to = this.nodes.emptiest(from)
    if (from === null || to === null)
      throw new EvenkeelError('CONFLICT', 'there is no other node for the session')
    await this.cluster.migrate(session, to)
    return `the session of the page goes from ${from} to ${to}`
  }

  private addNode(): void {
    const weight = this.weights[this.nodes.count % this.weights.length]!
    this.monitor.note({ text: `${this.nodes.add(weight)} starts with weight ${weight}` })
  }

  private killNode(): void {
    const id = this.nodes.killOne()
    if (id === null) this.noOtherNode()
    else this.monitor.note({ text: `${id}: SIGKILL`, colour: 'red' })
  }

  private drainNode(): void {
    const id = this.nodes.drainOne()
    if (id === null) this.noOtherNode()
    else this.monitor.note({ text: `${id}: SIGTERM, which means drain and exit` })
  }

  private noOtherNode(): void {
    this.monitor.note({ text: 'no other node could take the sessions: press a first', colour: 'yellow' })
  }

  private async rebalance(): Promise<void> {
    try {
      for (const { total, imbalanceBefore } of await this.cluster.rebalance()) {
        if (total > 0) continue
        this.monitor.note({ text: `rebalance: nothing to move, imbalance ${percent(imbalanceBefore)}` })
      }
    } catch (error) {
      this.monitor.note({ text: `rebalance: ${(error as Error).message}`, colour: 'red' })
    }
  }

  /** A process ended by itself. The demo goes on while there is something to see. */
  private ended(what: string, how: string): void {
    const isOver = this.cluster.gateways().every(({ state }) => state === 'down')
    if (this.readyAt === null || isOver) this.fail(new CommandFailed(`${what} ${how}.`))
    else this.monitor.note({ text: `${what} ${how}`, colour: 'red' })
  }
}
