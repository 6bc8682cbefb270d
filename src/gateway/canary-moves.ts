import { type Canary, isDrawn, sidesOf } from '../core/balance/canary.ts'
import { isEligible } from '../core/balance/candidate.ts'
import type { CanaryProgress } from './canary-word.ts'
import type { Migrator, MoveResult, MoveSource } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { NodeTable } from './node-table.ts'
import type { Placement } from './placement.ts'
import type { Session } from './session.ts'

export interface CanaryMovesContext {
  readonly nodes: NodeTable
  readonly migrator: Migrator
  readonly placement: Placement
  now(): number
  settled(result: MoveResult): void
}

/** A session whose move failed is tried again after this time. */
const retryMs = 5_000

/** Moves this gateway's sessions of the pool to the side of the canary that they belong to. */
export class CanaryMoves implements MoveSource {
  readonly reason = 'canary'
  readonly ownBudget = false
  private readonly context: CanaryMovesContext
  private canary: Canary
  /** Taken from its end. */
  private queue: Session[] = []
  private inFlight = 0
  private waiting = 0
  private readonly retryAt = new WeakMap<Session, number>()
  private moved = 0
  private returned = 0
  private failed = 0

  constructor(canary: Canary, context: CanaryMovesContext) {
    this.canary = canary
    this.context = context
  }

  get progress(): CanaryProgress {
    const { moved, returned, failed } = this
    return { moved, returned, failed, left: this.queue.length + this.inFlight + this.waiting }
  }

  /** Looks for sessions at the wrong side anew. Those whose side has no node for them stay. */
  scan(canary: Canary): void {
    const { nodes, now } = this.context
    this.canary = canary
    this.queue = []
    this.waiting = 0
    const sides = sidesOf(nodes.inPool(canary.pool), canary)
    const canMove = { canary: sides.canary.some(isEligible), others: sides.others.some(isEligible) }
    for (const [side, members] of Object.entries(sides)) {
      if (!canMove[side === 'canary' ? 'others' : 'canary']) continue
      // A node that is drained is being emptied anyway.
      for (const node of members) if (node.active) this.collect(node, side === 'canary', now())
    }
    if (this.queue.length > 0) this.context.migrator.add(this)
  }

  private collect(node: NodeEntry, isCanary: boolean, now: number): void {
    for (const session of node.assigned) {
      if (isDrawn(this.canary, session.id) === isCanary || !canLeave(session)) continue
      if ((this.retryAt.get(session) ?? 0) > now) this.waiting++
      else this.queue.push(session)
    }
  }

  next(): { session: Session; target: NodeEntry } | null {
    const { placement } = this.context
    for (let session = this.queue.pop(); session !== undefined; session = this.queue.pop()) {
      const { node } = session
      if (node === null || !canLeave(session)) continue
      const target = placement.place(session)
      const isOverThere = target !== null && this.isCanary(target) !== this.isCanary(node)
      if (!isOverThere || isDrawn(this.canary, session.id) !== this.isCanary(target)) continue
      this.inFlight++
      return { session, target }
    }
    this.context.migrator.remove(this)
    return null
  }

  result(result: MoveResult): void {
    this.inFlight--
    if (!result.moved && result.outcome !== 'session-closed') {
      this.failed++
      this.retryAt.set(result.session, this.context.now() + retryMs)
    } else if (result.moved) {
      if (this.isCanary(result.to)) this.moved++
      else this.returned++
    }
    this.context.settled(result)
  }

  /** Starts no more moves; those in flight end by themselves. */
  cancel(): void {
    this.queue = []
    this.waiting = 0
    this.context.migrator.remove(this)
  }

  private isCanary({ version }: NodeEntry): boolean {
    return version === this.canary.version
  }
}

function canLeave(session: Session): boolean {
  return !session.ended && session.move === null && session.closing === null && session.movable
}
