import type { Move as PlannedMove } from '../core/balance/planner.ts'
import type { Migrator, MoveResult, MoveSource } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

export interface RoundContext {
  readonly migrator: Migrator
  node(id: string): NodeEntry | undefined
  ended(): void
}

/** Carries out this gateway's part of one plan. A move that fails is not tried again: the next round plans anew from what is then. */
export class RebalanceRound implements MoveSource {
  readonly reason = 'rebalance'
  readonly ownBudget = false
  private readonly operation: OperationRecord
  private readonly context: RoundContext
  private left: { from: NodeEntry; to: NodeEntry; count: number }[] = []
  private inFlight = 0
  private over = false

  constructor(moves: readonly PlannedMove[], operation: OperationRecord, context: RoundContext) {
    this.operation = operation
    this.context = context
    for (const { from, to, count } of moves) {
      const [source, target] = [context.node(from), context.node(to)]
      if (source !== undefined && target !== undefined) this.left.push({ from: source, to: target, count })
    }
  }

  start(): void {
    this.context.migrator.add(this)
    this.check()
  }

  next(): { session: Session; target: NodeEntry } | null {
    for (;;) {
      const move = this.left[0]
      if (move === undefined) return null
      // A plan of another gateway may come from a version that does not know of nodes that keep their sessions.
      const gives = move.from.active && !move.from.keepsSessions
      const canMove = move.count > 0 && gives && move.to.active && move.to.healthy
      const session = canMove ? movable(move.from) : null
      if (session === null) {
        this.left.shift()
        this.check()
        continue
      }
      move.count--
      this.inFlight++
      return { session, target: move.to }
    }
  }

  result(result: MoveResult): void {
    this.inFlight--
    this.operation.add(result)
    this.check()
  }

  /** Starts no more moves; those in flight end by themselves. */
  cancel(): void {
    this.left = []
    this.end()
  }

  private check(): void {
    if (this.left.every((move) => move.count === 0) && this.inFlight === 0) this.end()
  }

  private end(): void {
    if (this.over) return
    this.over = true
    this.context.migrator.remove(this)
    this.context.ended()
  }
}

/** A session of the node that can move; preferably one with nothing in flight, whose pause is shortest. */
function movable(node: NodeEntry): Session | null {
  const looked = 128
  let second: Session | null = null
  let seen = 0
  for (const session of node.assigned) {
    if (session.move !== null || session.closing !== null || !session.movable) continue
    if (session.inbox.length === 0) return session
    second ??= session
    if (++seen === looked) break
  }
  return second
}
