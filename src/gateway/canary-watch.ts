import type { Canary } from '../core/balance/canary.ts'
import type { Seen } from '../core/health/canary-verdict.ts'
import type { NodeEntry } from './node-entry.ts'

interface Tally {
  sessionMs: number
  failures: number
  timed: number
  timedLog: number
}

interface Before {
  timed: number
  timedLog: number
}

/** Counts what this gateway sees of both sides of a canary while it is watched. */
export class CanaryWatch {
  readonly from: number
  private readonly version: string
  private readonly own: Tally = { sessionMs: 0, failures: 0, timed: 0, timedLog: 0 }
  private readonly others: Tally = { sessionMs: 0, failures: 0, timed: 0, timedLog: 0 }
  private readonly before = new WeakMap<NodeEntry, Before>()
  private lookedAt: number

  constructor({ version, watchFrom }: Canary, nodes: readonly NodeEntry[], now: number) {
    this.version = version
    this.from = watchFrom
    this.lookedAt = now
    for (const node of nodes) this.before.set(node, { timed: node.timedMessages, timedLog: node.timedLog })
  }

  get seen(): { canary: Seen; others: Seen } {
    return { canary: { ...this.own }, others: { ...this.others } }
  }

  failed(node: NodeEntry): void {
    this.side(node).failures++
  }

  /** To be called now and then. */
  look(nodes: readonly NodeEntry[], now: number): void {
    const elapsed = now - this.lookedAt
    this.lookedAt = now
    for (const node of nodes) {
      const tally = this.side(node)
      tally.sessionMs += node.assigned.size * elapsed
      const { timedMessages: timed, timedLog } = node
      const before = this.before.get(node) ?? { timed: 0, timedLog: 0 }
      tally.timed += timed - before.timed
      tally.timedLog += timedLog - before.timedLog
      this.before.set(node, { timed, timedLog })
    }
  }

  private side({ version }: NodeEntry): Tally {
    return version === this.version ? this.own : this.others
  }
}
