interface SentOutput {
  readonly seq: number
  readonly bytes: number
  /** Place of its last byte in all that was written to the client. */
  readonly end: number
  readonly at: number
}

export interface SentOutputsLimits {
  /** Up to so many are kept … */
  readonly count: number
  /** … with so many bytes of payload … */
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

  /**
   * Gives up what is too much. `taken`: how much of what was written the client's socket has taken. Returns the last output
   * that need not be kept, 0 for none.
   */
  trim(taken: number): number {
    if (!this.exceeds(slack, 0)) return 0
    return this.release(taken, (_oldest, gone) => this.exceeds(1, gone))
  }

  /** Gives up what is too old; as `trim`. To be called now and then. */
  expire(taken: number, now: number): number {
    return this.release(taken, ({ at }) => now - at >= this.limits.ms)
  }

  private exceeds(factor: number, gone: number): boolean {
    const { count, bytes } = this.limits
    return this.bytes > bytes * factor || this.outputs.length - gone > count * factor
  }

  private release(taken: number, isDue: (oldest: SentOutput, gone: number) => boolean): number {
    let count = 0
    for (const output of this.outputs) {
      if (output.end > taken || !isDue(output, count)) break
      this.bytes -= output.bytes
      count++
    }
    return count === 0 ? 0 : this.outputs.splice(0, count).at(-1)!.seq
  }
}
