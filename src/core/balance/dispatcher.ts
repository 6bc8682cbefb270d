import { type Candidate, weightNow } from './candidate.ts'

/** Where single messages may go. */
export interface DispatchTarget extends Candidate {
  /** Messages that it was given and has not committed. */
  readonly inFlight: number
}

/** A node that was passed over for long is not owed more than this many rounds. */
const roundsOwed = 16

/**
 * Sends each message to the target that has the least in flight for its weight. Idle targets are alike by that, so among equals goes the one
 * that is owed most by weight (smooth weighted round robin): who is passed over while it is busy makes up for it later, and shares are those of the weights
 * as long as all keep up.
 */
export class Dispatcher<T extends DispatchTarget> {
  private readonly owed = new WeakMap<T, number>()

  /** null: none of them can take it. */
  pick(targets: readonly T[], canTake: (target: T) => boolean): T | null {
    let best: T | null = null
    let least = Number.POSITIVE_INFINITY
    let most = Number.NEGATIVE_INFINITY
    let total = 0
    for (const target of targets) {
      if (!canTake(target)) continue
      const weight = weightNow(target)
      const owed = (this.owed.get(target) ?? 0) + weight
      this.owed.set(target, owed)
      total += weight
      const queue = target.inFlight / weight
      if (queue > least || (queue === least && owed <= most)) continue
      best = target
      least = queue
      most = owed
    }
    if (best === null) return null
    this.owed.set(best, most - total)
    this.forget(targets, total)
    return best
  }

  private forget(targets: readonly T[], total: number): void {
    const bound = roundsOwed * total
    for (const target of targets) {
      const owed = this.owed.get(target)
      if (owed !== undefined && Math.abs(owed) > bound) this.owed.set(target, Math.sign(owed) * bound)
    }
  }
}
