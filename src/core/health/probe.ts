export interface ProbeRules {
  /** From the beginning of one probe to the beginning of the next. */
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Failures in a row until the upstream is unhealthy. One success brings it back. */
  readonly failures: number
}

/** A probe that traffic asks for comes at the earliest this long after the one before. */
const hurrySpacingMs = 500

/**
 * What probes say of one upstream. It is unhealthy until the first of them has succeeded, so that nobody is sent to a server that was never seen alive.
 */
export class ProbeState {
  /** A change holds from the next probe on. */
  rules: ProbeRules
  private dueAt: number
  private begunAt: number | null = null
  private running = false
  private failed = 0
  /** Null when probes succeed; else why it is not to be used. */
  reason: string | null = 'not probed yet'
  /** The last probe succeeded, or failures are not enough yet. */
  healthy = false

  /** The first probe is due at once. */
  constructor(rules: ProbeRules, nowMs: number) {
    this.rules = rules
    this.dueAt = nowMs
  }

  isDue(nowMs: number): boolean {
    return this.overdueMs(nowMs) >= 0
  }

  /** How long the probe is due already; negative when it is not, or runs. */
  overdueMs(nowMs: number): number {
    return this.running ? Number.NEGATIVE_INFINITY : nowMs - this.dueAt
  }

  /** `spread`, 0 to 1, is for the first probe: the next one comes after that part of the interval, so that many upstreams are not probed at once for ever. */
  begin(nowMs: number, spread: number): void {
    const { intervalMs } = this.rules
    this.dueAt = nowMs + (this.begunAt === null ? intervalMs * (0.5 + spread / 2) : intervalMs)
    this.begunAt = nowMs
    this.running = true
  }

  /** `failure` is null for a success. Returns true when `healthy` has changed. */
  end(failure: string | null): boolean {
    this.running = false
    const before = this.healthy
    if (failure === null) {
      this.failed = 0
      this.reason = null
      this.healthy = true
    } else {
      this.failed++
      if (!this.healthy || this.failed >= this.rules.failures) {
        this.healthy = false
        this.reason = failure
      }
    }
    return this.healthy !== before
  }

  /** The probe says nothing, because the prober itself was stalled: another one is due. Failures before the stall do not count either. */
  void(nowMs: number): void {
    this.running = false
    this.failed = 0
    this.dueAt = nowMs
  }

  /** Traffic has failed: look soon instead of at the next interval. */
  hurry(nowMs: number): void {
    const earliest = this.begunAt === null ? nowMs : this.begunAt + hurrySpacingMs
    this.dueAt = Math.min(this.dueAt, Math.max(nowMs, earliest))
  }
}
