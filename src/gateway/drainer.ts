import type { MoveResult, MoveSource } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

export interface DrainContext {
  /** Asks the drain for moves from now on. */
  start(source: MoveSource): void
  stop(source: MoveSource): void
  now(): number
  /** A node that can take the session now, or null. The node that is drained is none. */
  pick(session: Session): NodeEntry | null
  /** Takes the session away from its node without asking it, and opens it elsewhere at its last commit; closes one that cannot move. */
  force(session: Session): void
  ended(drain: Drain): void
}

/** A session whose move failed is tried again after this time. */
const retryMs = 500

/** Moves all sessions off one node. What is still there at the deadline is taken away without asking. */
export class Drain implements MoveSource {
  readonly reason = 'drain'
  readonly node: NodeEntry
  readonly operation: OperationRecord
  private readonly context: DrainContext
  private readonly deadlineAt: number
  /** null: the gateway's budget. 0: none. */
  private readonly ratePerSecond: number | null
  private readonly startedAt: number
  private started = 0
  private readonly elsewhereAtStart: number
  private forcing = false
  private readonly retryAt = new Map<Session, number>()

  constructor(
    node: NodeEntry,
    operation: OperationRecord,
    context: DrainContext,
    deadlineMs: number,
    ratePerSecond: number | null,
  ) {
    this.node = node
    this.operation = operation
    this.context = context
    this.startedAt = context.now()
    this.elsewhereAtStart = node.elsewhere
    this.deadlineAt = this.startedAt + deadlineMs
    this.ratePerSecond = ratePerSecond
  }

  start(): void {
    this.node.state = 'draining'
    this.context.start(this)
    this.check()
  }

  get ownBudget(): boolean {
    return this.ratePerSecond !== null
  }

  next(): { session: Session; target: NodeEntry } | null {
    const now = this.context.now()
    if (this.ratePerSecond && this.started >= ((now - this.startedAt) / 1000) * this.ratePerSecond)
      return null
    for (const session of this.node.assigned) {
      // A session that is closing leaves by itself.
      if (session.move !== null || session.closing !== null || !session.movable) continue
      if ((this.retryAt.get(session) ?? 0) > now) continue
      const target = this.context.pick(session)
      if (target === null) return null
      this.started++
      return { session, target }
    }
    return null
  }

  result(result: MoveResult): void {
    if (result.moved || result.outcome === 'session-closed') this.retryAt.delete(result.session)
    else this.retryAt.set(result.session, this.context.now() + retryMs)
    if (result.outcome !== 'session-closed') this.operation.add(result)
    this.check()
  }

  /** To be called now and then: sees the end, or the deadline. */
  check(): void {
    // Taking a session away ends its move, and the end of a move calls this.
    if (!this.operation.running || this.forcing) return
    if (this.context.now() >= this.deadlineAt) {
      this.forcing = true
      for (const session of [...this.node.assigned]) this.context.force(session)
      this.node.cutOff()
      this.forcing = false
    }
    if (this.node.assigned.size > 0 || this.node.pending > 0) return
    if (this.node.state === 'draining') {
      this.node.state = 'drained'
      this.node.drainEnded()
    }
    // Other gateways empty the node too; the operator who asked here hears when all have.
    this.operation.movedElsewhere = this.elsewhereAtStart - this.node.elsewhere
    if (this.node.elsewhere === 0) this.finish('done')
  }

  finish(state: 'done' | 'failed' | 'cancelled'): void {
    this.context.stop(this)
    this.operation.end(state)
    this.context.ended(this)
  }
}
