import type { NodeView } from '../../gateway/operator.ts'
import { type ChildModule, startModule } from './child-module.ts'
import type { DemoCluster } from './cluster.ts'

interface NodeProcess extends ChildModule {
  /** The signal with which it was told to go. */
  leaving: 'SIGTERM' | 'SIGKILL' | null
}

/** The demo's node processes. */
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
      './node-process',
      ['--id', id, '--weight', String(weight), '--pool', pool, ...nodeArguments],
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

  /** SIGKILLs this one and returns its weight; null when it is none of the demo's, or no other could take its sessions. */
  kill(id: string): number | null {
    const view = this.cluster.nodes().find((node) => node.id === id)
    const killed = this.dismissOne(
      'SIGKILL',
      (node) => node.id === id && this.processes.get(id)?.leaving !== 'SIGKILL',
    )
    return killed === null ? null : view!.weight
  }

  /** The one with the fewest sessions that can take more; null: there is none beside `except`. */
  emptiest(except: string | null): string | null {
    const others = this.cluster.nodes().filter((view) => view.id !== except && this.isStaying(view))
    return others.sort((a, b) => a.sessions / a.weight - b.sessions / b.weight)[0]?.id ?? null
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
