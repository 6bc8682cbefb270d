import type { Measure } from './pool-rules.ts'

/** What was measured loses its weight over about this time. */
const memoryMs = 30_000
/** A shorter look says too little. */
const shortestLookMs = 900
/** So many messages more or less than expected are no accident: three standard deviations, and some for the rare ones. */
const jumpDeviations = 3
const jumpMessages = 3

/**
 * What one session sends and gets a second, as an average that forgets. It begins as the plain average, and begins anew when the session
 * has plainly changed: who became hot ten seconds ago counts as hot, not as a third of it.
 */
export class LoadMeter {
  private messagesPerSecond = 0
  private bytesPerSecond = 0
  private messages = 0
  private bytes = 0
  private begunAt: number
  private lookedAt: number

  /** Times in milliseconds, of any clock that does not run back. */
  constructor(now: number) {
    this.begunAt = now
    this.lookedAt = now
  }

  count(bytes: number): void {
    this.messages++
    this.bytes += bytes
  }

  /** A second's worth, after a look at what came since the last one. */
  look(measure: Measure, now: number): number {
    const ms = now - this.lookedAt
    if (ms >= shortestLookMs) this.take(ms, now)
    return this.rate(measure)
  }

  /** As it was at the last look. */
  rate(measure: Measure): number {
    return measure === 'bytes' ? this.bytesPerSecond : this.messagesPerSecond
  }

  private take(ms: number, now: number): void {
    const seconds = ms / 1000
    const expected = this.messagesPerSecond * seconds
    const surprise = Math.abs(this.messages - expected)
    if (surprise > jumpDeviations * Math.sqrt(expected) + jumpMessages) this.begunAt = this.lookedAt
    const weight = Math.max(1 - Math.exp(-ms / memoryMs), ms / (now - this.begunAt))
    this.messagesPerSecond += weight * (this.messages / seconds - this.messagesPerSecond)
    this.bytesPerSecond += weight * (this.bytes / seconds - this.bytesPerSecond)
    this.messages = 0
    this.bytes = 0
    this.lookedAt = now
  }
}
