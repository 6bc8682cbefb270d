/** A burst is over before sessions would move for it. */
const looksInARow = 2
/** Those who have bigger sessions have had their turn by then. */
const looksForSmall = 5
/** A session that makes less than this part of what is to be moved is a small one. */
const smallPart = 0.05
/** A session that has moved is left where it is for so long. */
export const restMs = 60_000
/** Plans end this much inside of the tolerance, as a part of it, so that what they leave is not at once outside again. */
const targetPart = 0.96
/** A plan that brings the worst node no nearer than this to its share is not worth a move. */
const leastGain = 0.005

/** When a pool is balanced by load, and which of its sessions may move: what keeps it from moving back and forth. */
export class Hysteresis<S extends object> {
  /** How far from its fair share of the load a node may stay, as a part of it. */
  tolerance: number
  private readonly movedAt = new WeakMap<S, number>()
  private above = 0

  constructor(tolerance: number) {
    this.tolerance = tolerance
  }

  /** Where plans are to end. */
  get target(): number {
    return this.tolerance * targetPart
  }

  /** The imbalance is looked at. True: it has been too large for long enough to plan. */
  look(imbalance: number): boolean {
    this.above = imbalance > this.tolerance ? this.above + 1 : 0
    return this.above >= looksInARow
  }

  /** Of `planTraffic`, where other gateways have sessions as well: they may have the ones that are hot. */
  get leastPart(): number {
    return this.above < looksForSmall ? smallPart : 0
  }

  isWorthIt({
    imbalanceBefore,
    imbalanceAfter,
  }: {
    imbalanceBefore: number
    imbalanceAfter: number
  }): boolean {
    return imbalanceBefore - imbalanceAfter >= leastGain
  }

  /** Sessions have moved, here or elsewhere: what was seen before is no reason any more. */
  settle(): void {
    this.above = 0
  }

  moved(session: S, nowMs: number): void {
    this.movedAt.set(session, nowMs)
  }

  rests(session: S, nowMs: number): boolean {
    return nowMs - (this.movedAt.get(session) ?? Number.NEGATIVE_INFINITY) < restMs
  }
}
