import type { Migrator, MoveResult, MoveSource } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

export interface SessionMove {
  readonly session: Session
  readonly to: NodeEntry
}

export interface SessionRoundContext {
  readonly migrator: Migrator
  moved(session: Session): void
  ended(): void
}

/** Moves the very sessions that a plan names. One that cannot move now is left out: the next plan will know better. */
export class SessionRound implements MoveSource {
  readonly reason = 'rebalance'
  readonly ownBudget = false
  private readonly operation: OperationRecord
  private readonly context: SessionRoundContext
  private left: SessionMove[]
  private inFlight = 0
  private over = false

  constructor(moves: readonly SessionMove[], operation: OperationRecord, context: SessionRoundContext) {
    this.operation = operation
    this.context = context
    // Taken from its end.
    this.left = moves.toReversed()
  }

  start(): void {
    this.context.migrator.add(this)
    this.check()
  }

  next(): { session: Session; target: NodeEntry } | null {
    for (;;) {
      const move = this.left.pop()
      if (move === undefined) {
        this.check()
        return null
      }
      const { session, to } = move
      const isHere = session.node !== null && session.node !== to && !session.ended
      const canMove = isHere && session.move === null && session.closing === null && session.movable
      if (!canMove || !to.active || !to.healthy) continue
      this.inFlight++
      return { session, target: to }
    }
  }

  result(result: MoveResult): void {
    this.inFlight--
    this.operation.add(result)
    if (result.moved) this.context.moved(result.session)
    this.check()
  }

  /** Starts no more moves; those in flight end by themselves. */
  cancel(): void {
    this.left = []
    this.end()
  }

  private check(): void {
    if (this.left.length === 0 && this.inFlight === 0) this.end()
  }

  private end(): void {
    if (this.over) return
    this.over = true
    this.context.migrator.remove(this)
    this.context.ended()
  }
}
