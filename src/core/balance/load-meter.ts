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
  private msPerSecond = 0
  private messages = 0
  private bytes = 0
  private ms = 0
  private handlingSince: number | null = null
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

  /** Its node has a message of it. */
  handling(now: number): void {
    this.handlingSince ??= now
  }

  /** Its node has handled something; `more`: and has more. */
  handled(more: boolean, now: number): void {
    if (this.handlingSince !== null) this.ms += now - this.handlingSince
    this.handlingSince = more ? now : null
  }

  /** A second's worth, after a look at what came since the last one. */
  look(measure: Measure, now: number): number {
    const ms = now - this.lookedAt
    if (ms >= shortestLookMs) this.take(ms, now)
    return this.rate(measure)
  }

  /** As it was at the last look. */
  rate(measure: Measure): number {
    if (measure === 'time') return this.msPerSecond
    return measure === 'bytes' ? this.bytesPerSecond : this.messagesPerSecond
  }

  private take(ms: number, now: number): void {
    // What takes long is not to count only when it is over.
    if (this.handlingSince !== null) this.handled(true, now)
    const seconds = ms / 1000
    const expected = this.messagesPerSecond * seconds
    const surprise = Math.abs(this.messages - expected)
    if (surprise > jumpDeviations * Math.sqrt(expected) + jumpMessages) this.begunAt = this.lookedAt
    const weight = Math.max(1 - Math.exp(-ms / memoryMs), ms / (now - this.begunAt))
    this.messagesPerSecond += weight * (this.messages / seconds - this.messagesPerSecond)
    this.bytesPerSecond += weight * (this.bytes / seconds - this.bytesPerSecond)
    this.msPerSecond += weight * (this.ms / seconds - this.msPerSecond)
    this.messages = 0
    this.bytes = 0
    this.ms = 0
    this.lookedAt = now
  }
}
