export interface BreakerRules {
  /** Failures in a row that open it. */
  readonly failures: number
  /** For how long nobody is asked then. Milliseconds. */
  readonly restMs: number
}

/** Keeps from asking somebody who does not answer: after some failures in a row, one question at a time finds out whether that has changed. */
export class Breaker {
  private readonly rules: BreakerRules
  private failures = 0
  private openUntil = 0
  private probing = false

  constructor(rules: BreakerRules) {
    this.rules = rules
  }

  /** Whether to ask now; then `succeeded` or `failed` must follow. */
  mayAsk(now: number): boolean {
    if (this.failures < this.rules.failures) return true
    if (this.probing || now < this.openUntil) return false
    this.probing = true
    return true
  }

  succeeded(): void {
    this.failures = 0
    this.probing = false
  }

  failed(now: number): void {
    this.failures++
    this.probing = false
    if (this.failures >= this.rules.failures) this.openUntil = now + this.rules.restMs
  }
}
