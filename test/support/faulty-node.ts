import { createNode, type Delivery } from 'evenkeel/sdk'
import { onTestFinished } from 'vitest'
import { LinkProxy } from './link-proxy.ts'
import { Gate, numberedHandlers, type Point, type Step } from './numbered.ts'
import { type Child, kill, orExit, startChild } from './processes.ts'
import { until } from './until.ts'

export interface FaultyNodeOptions {
  delivery?: Delivery
}

interface Ports {
  internalPort: number
}

/** A node with the SDK and the numbered application, which a test can stop at a step and lose. */
export abstract class FaultyNode {
  readonly id: string
  readonly steps: Step[] = []
  private readonly looks = new Set<() => void>()

  constructor(id: string) {
    this.id = id
  }

  /** Waits for a step, past or to come. */
  async step(point: Point, fits: (step: Step) => boolean = () => true): Promise<Step> {
    const find = () => this.steps.find((step) => step.point === point && fits(step))
    await until(() => find() !== undefined, this.looks, { what: `${point} at node ${this.id}` })
    return find()!
  }

  protected heard(step: Step): void {
    this.steps.push(step)
    for (const look of [...this.looks]) look()
  }

  /** From now on handlers wait at this point. */
  abstract block(point: Point): Promise<void>
  abstract release(point: Point): Promise<void>
  /** Neither reads nor writes any more, but its connection stays. */
  abstract freeze(): void
  abstract thaw(): void
  /** Gone for good. */
  abstract lose(): Promise<void>
}

class LinkedNode extends FaultyNode {
  private readonly gate = new Gate()
  private proxy!: LinkProxy

  async start({ internalPort }: Ports, { delivery = 'stream' }: FaultyNodeOptions): Promise<this> {
    this.proxy = await LinkProxy.to(internalPort)
    const node = createNode({
      id: this.id,
      gateways: [this.proxy.url],
      delivery,
      drainOnSigterm: false,
      logger: { info() {}, warn() {}, error() {} },
    })
    node.serve(numberedHandlers(this.id, this.gate, (step) => this.heard(step)))
    onTestFinished(async () => {
      this.proxy.cut()
      await node.stop()
    })
    await node.start()
    return this
  }

  async block(point: Point): Promise<void> {
    this.gate.block(point)
  }
  async release(point: Point): Promise<void> {
    this.gate.release(point)
  }
  freeze(): void {
    this.proxy.freeze()
  }
  thaw(): void {
    this.proxy.thaw()
  }
  async lose(): Promise<void> {
    this.proxy.cut()
  }
}

class NodeProcess extends FaultyNode {
  private child!: Child
  private obeyed: (() => void)[] = []

  async start({ internalPort }: Ports, { delivery = 'stream' }: FaultyNodeOptions): Promise<this> {
    this.child = startChild({
      name: `node ${this.id}`,
      script: 'test/support/numbered-node.ts',
      args: [`--id=${this.id}`, `--gateway=ws://127.0.0.1:${internalPort}`, `--delivery=${delivery}`],
      ipc: true,
    })
    onTestFinished(async () => {
      await kill(this.child)
    })
    this.child.process.on('message', (message: Step | { obeyed: true }) => {
      if ('obeyed' in message) this.obeyed.shift()!()
      else this.heard(message)
    })
    await orExit(this.child, new Promise<void>((resolve) => this.obeyed.push(resolve)))
    return this
  }

  get running(): boolean {
    return this.child.running
  }

  block(point: Point): Promise<void> {
    return this.tell({ block: point })
  }
  release(point: Point): Promise<void> {
    return this.tell({ release: point })
  }
  freeze(): void {
    this.child.process.kill('SIGSTOP')
  }
  thaw(): void {
    this.child.process.kill('SIGCONT')
  }
  async lose(): Promise<void> {
    await kill(this.child)
  }

  private tell(command: { block?: Point; release?: Point }): Promise<void> {
    this.child.process.send(command)
    return orExit(this.child, new Promise<void>((resolve) => this.obeyed.push(resolve)))
  }
}

/** In this process, behind a wire that can be cut. */
export function startLinkedNode(
  gateway: Ports,
  id: string,
  options: FaultyNodeOptions = {},
): Promise<FaultyNode> {
  return new LinkedNode(id).start(gateway, options)
}

/** In a process of its own, which can be killed. */
export function startNodeProcess(
  gateway: Ports,
  id: string,
  options: FaultyNodeOptions = {},
): Promise<NodeProcess> {
  return new NodeProcess(id).start(gateway, options)
}
