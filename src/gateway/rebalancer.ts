import { planRebalance, type RebalancePlan } from '../core/balance/planner.ts'
import type { Migrator, MoveResult, MoveSource } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

export interface RebalanceContext {
  readonly migrator: Migrator
  readonly tolerance: number
  /** null: no cap. */
  readonly maxMovesPerRound: number | null
  inPool(pool: string): readonly NodeEntry[]
  ended(round: RebalanceRound): void
}

export function planFor(
  pool: string,
  { inPool, tolerance, maxMovesPerRound }: RebalanceContext,
): RebalancePlan {
  return planRebalance(
    inPool(pool),
    maxMovesPerRound === null ? { tolerance } : { tolerance, maxMoves: maxMovesPerRound },
  )
}

/** Carries out one plan. A move that fails is not tried again: the next round plans anew from what is then. */
export class RebalanceRound implements MoveSource {
  readonly reason = 'rebalance'
  readonly ownBudget = false
  readonly pool: string
  readonly operation: OperationRecord
  private readonly context: RebalanceContext
  private readonly left: { from: NodeEntry; to: NodeEntry; count: number }[]
  private inFlight = 0

  constructor(pool: string, plan: RebalancePlan, operation: OperationRecord, context: RebalanceContext) {
    this.pool = pool
    this.operation = operation
    this.context = context
    const nodes = new Map(context.inPool(pool).map((node) => [node.id, node]))
    this.left = plan.moves.map(({ from, to, count }) => ({
      from: nodes.get(from)!,
      to: nodes.get(to)!,
      count,
    }))
  }

  start(): void {
    this.context.migrator.add(this)
    this.check()
  }

  next(): { session: Session; target: NodeEntry } | null {
    for (;;) {
      const move = this.left[0]
      if (move === undefined) return null
      const session =
        move.count > 0 && move.from.active && move.to.active && move.to.healthy ? movable(move.from) : null
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

  private check(): void {
    if (this.left.every((move) => move.count === 0) && this.inFlight === 0) this.finish('done')
  }

  finish(state: 'done' | 'cancelled'): void {
    if (!this.operation.running) return
    this.context.migrator.remove(this)
    this.operation.end(state)
    this.context.ended(this)
  }
}

/** A session of the node that can move; preferably one with nothing in flight, whose pause is shortest. */
function movable(node: NodeEntry): Session | null {
  const looked = 128
  let second: Session | null = null
  let seen = 0
  for (const session of node.assigned) {
    if (session.move !== null || session.closing !== null) continue
    if (session.inbox.length === 0) return session
    second ??= session
    if (++seen === looked) break
  }
  return second
}
