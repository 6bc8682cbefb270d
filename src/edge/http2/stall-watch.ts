/**
 * Tells when nothing moves. Timers of Node's HTTP/2 streams start anew with whatever the connection sends, so that a client keeps a
 * stream that it does not read by reading another one.
 */
export class StallWatch {
  private readonly moved: () => number
  private seen: number
  private readonly timer: NodeJS.Timeout

  /** `moved`: a count that grows with what moves. Calls back every `ms` in which it did not. */
  constructor(ms: number, moved: () => number, stalled: () => void) {
    this.moved = moved
    this.seen = moved()
    this.timer = setInterval(() => {
      const now = this.moved()
      if (now === this.seen) stalled()
      this.seen = now
    }, ms)
  }

  stop(): void {
    clearInterval(this.timer)
  }
}
