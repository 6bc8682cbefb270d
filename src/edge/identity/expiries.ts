/** How exact ends are. */
const tickMs = 250

/** Something that is done at its time. */
export interface Expiring {
  readonly tick: number
  readonly expired: () => void
}

/** Does many things at their times with one timer. Times are Unix milliseconds, for that is what tokens have. */
export class Expiries {
  private readonly buckets = new Map<number, Set<Expiring>>()
  private timer: NodeJS.Timeout | null = null
  private done = 0

  /** What is due already is done with the next tick. */
  add(dueMs: number, expired: () => void): Expiring {
    const now = tickAt(Date.now())
    const one = { tick: Math.max(tickAt(dueMs), now) + 1, expired }
    const bucket = this.buckets.get(one.tick)
    if (bucket === undefined) this.buckets.set(one.tick, new Set([one]))
    else bucket.add(one)
    if (this.timer === null) {
      this.done = now
      this.timer = setInterval(() => this.sweep(), tickMs)
      this.timer.unref()
    }
    return one
  }

  /** May be said for what is done, or removed, already. */
  remove(one: Expiring): void {
    const bucket = this.buckets.get(one.tick)
    if (bucket?.delete(one) && bucket.size === 0) this.buckets.delete(one.tick)
    this.stopIfEmpty()
  }

  private sweep(): void {
    const now = tickAt(Date.now())
    // A clock that was set, or a process that was stopped, jumps over many.
    const far = now - this.done > this.buckets.size
    const ticks = far ? [...this.buckets.keys()].filter((tick) => tick <= now) : range(this.done + 1, now)
    this.done = Math.max(this.done, now)
    for (const tick of ticks) {
      const bucket = this.buckets.get(tick)
      if (bucket === undefined) continue
      this.buckets.delete(tick)
      for (const { expired } of bucket) expired()
    }
    this.stopIfEmpty()
  }

  private stopIfEmpty(): void {
    if (this.buckets.size > 0 || this.timer === null) return
    clearInterval(this.timer)
    this.timer = null
  }
}

function tickAt(ms: number): number {
  return Math.floor(ms / tickMs)
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index)
}
