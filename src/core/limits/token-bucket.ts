/** So many a second, and so many at once after a quiet time. */
export interface Rate {
  readonly perSecond: number
  readonly burst: number
}

/** Tokens come at a rate and are kept up to the burst. Times are milliseconds of any clock; one that runs back brings nothing. */
export class TokenBucket {
  readonly rate: Rate
  private level: number
  private at: number

  constructor(rate: Rate, now: number) {
    this.rate = rate
    this.level = rate.burst
    this.at = now
  }

  /** Takes tokens if they are there. */
  take(now: number, count = 1): boolean {
    this.refill(now)
    if (this.level < count) return false
    this.level -= count
    return true
  }

  /** Takes a token that may not be there yet. Returns the milliseconds until all that was taken is there; 0: it is. */
  draw(now: number): number {
    this.refill(now)
    this.level--
    return this.level >= 0 ? 0 : Math.ceil((-this.level * 1000) / this.rate.perSecond)
  }

  /** Milliseconds until a token is there. */
  waitMs(now: number): number {
    this.refill(now)
    return this.level >= 1 ? 0 : Math.ceil(((1 - this.level) * 1000) / this.rate.perSecond)
  }

  /** What could be taken now. */
  left(now: number): number {
    this.refill(now)
    return Math.max(0, Math.floor(this.level))
  }

  private refill(now: number): void {
    const ms = now - this.at
    if (ms <= 0) return
    this.at = now
    this.level = Math.min(this.rate.burst, this.level + (ms * this.rate.perSecond) / 1000)
  }
}
