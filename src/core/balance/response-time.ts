/** A sample loses its weight over about this time. */
const memoryMs = 5_000

/** How long answers take, as an average that forgets. Begins as the plain average of what there is. */
export class ResponseTime {
  /** Milliseconds; undefined until there was an answer. */
  ms: number | undefined = undefined
  private samples = 0
  private at = 0

  /** An answer came after `ms`; `now` in milliseconds of any clock that does not run back. */
  add(ms: number, now: number): void {
    this.samples++
    const weight = Math.max(1 / this.samples, 1 - Math.exp(-(now - this.at) / memoryMs))
    this.ms = this.ms === undefined ? ms : this.ms + weight * (ms - this.ms)
    this.at = now
  }

  /** An answer is waited for since so long: it will take longer still. */
  waited(ms: number): void {
    if (ms > (this.ms ?? 0)) this.ms = ms
  }
}
