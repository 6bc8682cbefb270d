import type { DemoOptions } from '../commands/demo.ts'
import { CommandFailed } from '../errors.ts'
import { percent } from '../output.ts'
import { Clients } from './clients.ts'
import { type DemoGateway, startDemoGateway } from './gateway.ts'
import { Monitor } from './monitor.ts'
import { Nodes } from './nodes.ts'

const nodesUpMs = 60_000

/** A gateway, its nodes and its clients. */
export class Demo {
  readonly gateway: DemoGateway
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

  /** Opens the gateway. Throws ConfigError or CommandFailed. */
  static async open(options: DemoOptions): Promise<Demo> {
    return new Demo(options, await startDemoGateway(options))
  }

  private constructor({ weights, clients }: DemoOptions, gateway: DemoGateway) {
    const { promise, reject } = Promise.withResolvers<never>()
    this.failure = promise
    this.fail = reject
    // Whoever waits for it hears of it; that nobody does yet is no reason to crash.
    promise.catch(() => {})
    this.gateway = gateway
    this.weights = weights
    this.monitor = new Monitor(gateway.operator)
    this.nodes = new Nodes(gateway, (id, how) => this.nodeEnded(id, how))
    this.clients = new Clients(clients)
    void this.clients.ended.then((how) => this.fail(new CommandFailed(`The clients' process ${how}.`)))
  }

  /** Starts the nodes and, once they are up, lets the clients connect. Throws CommandFailed. */
  async populate(): Promise<void> {
    const up = Promise.withResolvers<void>()
    const missing = new Set(this.weights.map((weight) => this.nodes.add(weight)))
    const unsubscribe = this.gateway.operator.onEvent((event) => {
      if (event.type === 'node-up' && missing.delete(event.node) && missing.size === 0) up.resolve()
    })
    const timer = setTimeout(() => {
      const names = [...missing].join(', ')
      this.fail(new CommandFailed(`Not up after ${nodesUpMs / 1000} s: ${names}. Is this machine too busy?`))
    }, nodesUpMs)
    try {
      await Promise.race([up.promise, this.failure])
    } finally {
      unsubscribe()
      clearTimeout(timer)
    }
    this.readyAt = Date.now()
    this.clients.connect(`${this.gateway.publicUrl.replace('http', 'ws')}/ws`)
  }

  /** What the key does, or nothing. */
  press(key: string): void {
    if (this.readyAt === null || this.closing) return
    if (key === 'a') this.addNode()
    else if (key === 'k') this.killNode()
    else if (key === 'd') this.drainNode()
    else if (key === 'r') this.rebalance()
  }

  /** Ends everything without asking anybody. */
  async close(): Promise<void> {
    this.closing = true
    this.fail(new CommandFailed('The demo was ended.'))
    await Promise.all([this.clients.kill(), this.nodes.killAll(), this.gateway.close()])
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

  private rebalance(): void {
    for (const { total, imbalanceBefore } of this.gateway.operator.rebalance()) {
      if (total === 0) {
        this.monitor.note({ text: `rebalance: nothing to move, imbalance ${percent(imbalanceBefore)}` })
      }
    }
  }

  private nodeEnded(id: string, how: string): void {
    if (this.readyAt === null) this.fail(new CommandFailed(`${id} ${how}.`))
    else this.monitor.note({ text: `${id} ${how}`, colour: 'red' })
  }
}
