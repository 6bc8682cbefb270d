/**
 * An asynchronous job that runs when asked to, never twice at once: requests that come while it waits or runs
 * become one run. The job must not reject.
 */
export class Repeated {
  private readonly job: () => Promise<void>
  private readonly spacingMs: number
  private timer: NodeJS.Timeout | null = null
  private dueAt = Number.POSITIVE_INFINITY
  private running = false
  private stopped = false

  /** `spacingMs` is how long `soon` waits for further requests. */
  constructor(job: () => Promise<void>, spacingMs: number) {
    this.job = job
    this.spacingMs = spacingMs
  }

  soon(): void {
    this.within(this.spacingMs)
  }

  /** The job begins in `ms` at the latest. */
  within(ms: number): void {
    const dueAt = performance.now() + ms
    if (this.stopped || dueAt >= this.dueAt) return
    this.dueAt = dueAt
    if (!this.running) this.arm()
  }

  /** A run that has begun goes to its end; no other one follows. */
  stop(): void {
    this.stopped = true
    if (this.timer !== null) clearTimeout(this.timer)
  }

  private arm(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.run(), Math.max(0, this.dueAt - performance.now()))
  }

  private async run(): Promise<void> {
    this.timer = null
    this.dueAt = Number.POSITIVE_INFINITY
    this.running = true
    await this.job()
    this.running = false
    if (this.dueAt < Number.POSITIVE_INFINITY && !this.stopped) this.arm()
  }
}
