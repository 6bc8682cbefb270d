/** Counts what may happen only so often: `most` times at once, and as many again in `windowMs`. */
export class Budget {
  private readonly most: number
  private readonly perMs: number
  private left: number
  private at: number

  constructor(most: number, windowMs: number, now: number) {
    this.most = most
    this.perMs = most / windowMs
    this.left = most
    this.at = now
  }

  /** False: too often. `now` in milliseconds, of a clock that does not go back. */
  take(now: number): boolean {
    this.left = Math.min(this.most, this.left + (now - this.at) * this.perMs)
    this.at = now
    this.left -= 1
    return this.left >= 0
  }
}
