interface SentOutput {
  readonly seq: number
  readonly bytes: number
  /** Place of its last byte in all that was written to the client. */
  readonly end: number
  readonly at: number
}

export interface SentOutputsLimits {
  /** Up to so many bytes are kept … */
  readonly bytes: number
  /** … for so long. */
  readonly ms: number
}

/** So far above the limit before anything is given up, so that the node need not hear of each output. */
const slack = 1.25

/**
 * What was sent to a client that never acknowledges: decides how far it can be taken for received. Never what the client's
 * socket has not taken; of the rest what is too much or too old. Times are monotonic milliseconds.
 */
export class SentOutputs {
  private readonly limits: SentOutputsLimits
  private outputs: SentOutput[] = []
  private bytes = 0

  constructor(limits: SentOutputsLimits) {
    this.limits = limits
  }

  /** `end`: how much has been written to the client, with this output. */
  add(seq: number, bytes: number, end: number, now: number): void {
    this.outputs.push({ seq, bytes, end, at: now })
    this.bytes += bytes
  }

  /** `taken`: how much of what was written its socket has taken. Returns the last output that need not be kept, 0 for none. */
  release(taken: number, now: number): number {
    const isTooMuch = this.bytes > this.limits.bytes * slack
    let count = 0
    let left = this.bytes
    for (const { bytes, end, at } of this.outputs) {
      if (end > taken || (now - at < this.limits.ms && !(isTooMuch && left > this.limits.bytes))) break
      left -= bytes
      count++
    }
    if (count === 0) return 0
    this.bytes = left
    return this.outputs.splice(0, count).at(-1)!.seq
  }
}
