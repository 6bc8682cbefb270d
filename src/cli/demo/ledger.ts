/** What went wrong, in numbers of messages. */
export interface Verdict {
  /** Not answered while a later one was, not answered in time, or forgotten by the state. */
  lost: number
  /** Answered again, or handled again. */
  doubled: number
  /** Answered after a later one. */
  reordered: number
}

export interface LedgerOptions {
  /** Part of every message, so that another client's answer is recognised. */
  name: string
  /** Without an answer for this long, a message counts as lost; a late answer takes that back. */
  overdueMs: number
}

/**
 * Judges one conversation with the echo node from the answers alone. Messages are numbered from 1; the answer to
 * number n must echo it, come after that of n - 1, and carry `count` n.
 */
export class Ledger {
  private readonly options: LedgerOptions
  /** When each number without an answer was sent, lowest first. */
  private readonly unanswered = new Map<number, number>()
  private asked = 0
  private highest = 0
  /** How far `count` is ahead of the numbers; what is known already must not be counted at every answer. */
  private drift = 0
  private forgotten = 0
  private doubled = 0
  private reordered = 0

  constructor(options: LedgerOptions) {
    this.options = options
  }

  get waiting(): number {
    return this.unanswered.size
  }

  /** The next message to send. */
  ask(nowMs: number): string {
    this.unanswered.set(++this.asked, nowMs)
    return `${this.options.name} ${this.asked}`
  }

  answer(text: string): void {
    const answer = this.parse(text)
    if (answer === null) {
      this.doubled++
      return
    }
    const { number, count } = answer
    const change = count - number - this.drift
    if (!this.unanswered.delete(number)) {
      this.doubled += Math.max(1, change)
      this.drift += Math.max(0, change)
    } else if (number < this.highest) {
      this.reordered++
      // Its count was missing when the later ones were handled, and is there from now on.
      if (this.drift < 0) this.drift++
    } else {
      const skipped = number - this.highest - 1
      this.highest = number
      this.drift += change
      this.doubled += Math.max(0, change)
      this.forgotten += Math.max(0, -change - skipped)
    }
  }

  verdict(nowMs: number): Verdict {
    let missing = 0
    for (const [number, sentAt] of this.unanswered) {
      const isLost = number < this.highest || nowMs - sentAt >= this.options.overdueMs
      if (!isLost) break
      missing++
    }
    return this.with(missing)
  }

  /** The connection is gone: what has no answer now will never have one. */
  end(): Verdict {
    return this.with(this.unanswered.size)
  }

  private with(missing: number): Verdict {
    return { lost: missing + this.forgotten, doubled: this.doubled, reordered: this.reordered }
  }

  private parse(text: string): { number: number; count: number } | null {
    let answer: { echo?: unknown; count?: unknown } | null
    try {
      answer = JSON.parse(text)
    } catch {
      return null
    }
    const { echo, count } = answer ?? {}
    const [name, digits, ...rest] = String(echo).split(' ')
    const number = Number(digits)
    const isOurs = name === this.options.name && rest.length === 0 && number >= 1 && number <= this.asked
    return isOurs && Number.isInteger(number) && Number.isInteger(count)
      ? { number, count: count as number }
      : null
  }
}
