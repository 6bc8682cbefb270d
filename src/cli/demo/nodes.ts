import type { NodeView } from '../../gateway/operator.ts'
import { type ChildModule, startModule } from './child-module.ts'
import type { DemoCluster } from './cluster.ts'

interface NodeProcess extends ChildModule {
  /** The signal with which it was told to go. */
  leaving: 'SIGTERM' | 'SIGKILL' | null
}

/** The demo's node processes: each is the echo example. */
export class Nodes {
  private readonly cluster: DemoCluster
  private readonly onUnexpectedEnd: (id: string, how: string) => void
  private readonly processes = new Map<string, NodeProcess>()
  private started = 0
  private closing = false

  constructor(cluster: DemoCluster, onUnexpectedEnd: (id: string, how: string) => void) {
    this.cluster = cluster
    this.onUnexpectedEnd = onUnexpectedEnd
  }

  /** Starts one more; returns its id. */
  add(weight: number): string {
    const { nodeArguments, nodeToken, pool } = this.cluster
    const id = `node-${++this.started}`
    const child = startModule(
      '../../../examples/echo-node',
      [
        ...['--id', id, '--weight', String(weight), '--pool', pool],
        ...nodeArguments,
        // Nodes get killed here, and clients that resend nothing must see no answer twice.
        ...['--delivery', 'atomic'],
      ],
      { env: { ...process.env, EVENKEEL_NODE_TOKEN: nodeToken ?? '' } },
    )
    const node: NodeProcess = { ...child, leaving: null }
    this.processes.set(id, node)
    void child.ended.then((how) => {
      this.processes.delete(id)
      if (node.leaving === null && !this.closing) this.onUnexpectedEnd(id, how)
    })
    return id
  }

  get count(): number {
    return this.started
  }

  /** SIGKILLs one at random and returns its id; null when no other could take its sessions. */
  killOne(): string | null {
    return this.dismissOne(
      'SIGKILL',
      ({ id, health }) => health !== 'down' && this.processes.get(id)?.leaving !== 'SIGKILL',
    )
  }

  /** Lets one at random drain itself and exit; returns its id, or null when no other could take its sessions. */
  drainOne(): string | null {
    return this.dismissOne('SIGTERM', (view) => this.isStaying(view))
  }

  async killAll(): Promise<void> {
    this.closing = true
    const all = [...this.processes.values()]
    for (const { process } of all) process.kill('SIGKILL')
    await Promise.all(all.map(({ ended }) => ended))
  }

  private dismissOne(signal: 'SIGTERM' | 'SIGKILL', isCandidate: (view: NodeView) => boolean): string | null {
    const views = this.cluster.nodes().filter(({ pool }) => pool === this.cluster.pool)
    const candidates = views.filter(
      (view) =>
        this.processes.has(view.id) &&
        isCandidate(view) &&
        views.some((other) => other !== view && this.isStaying(other)),
    )
    const chosen = candidates[Math.floor(Math.random() * candidates.length)]
    if (chosen === undefined) return null
    const node = this.processes.get(chosen.id)!
    node.leaving = signal
    node.process.kill(signal)
    return chosen.id
  }

  /** It can take sessions and will go on doing so, as far as the demo knows. */
  private isStaying({ id, state, health }: NodeView): boolean {
    return state === 'active' && health === 'healthy' && (this.processes.get(id)?.leaving ?? null) === null
  }
}
