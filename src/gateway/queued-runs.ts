import { failEvent } from '../core/run/entry.ts'
import { origin } from '../core/run/offset.ts'
import type { RunHost } from './run-host.ts'

interface Queued {
  readonly until: number
  readonly lane: string
  /** null: too much is kept already. */
  readonly requestJson: string | null
}

/** Requests that are kept so that Redis may lose them. */
const keptBytesMost = 32 * 1024 * 1024

/**
 * Runs that this gateway has put into a queue and that may still be there: they fail when nobody takes them in time, and are put there again
 * should Redis have lost them.
 */
export class QueuedRuns {
  private readonly host: RunHost
  /** Puts a run into its queue. */
  private readonly enqueue: (lane: string, run: string) => Promise<unknown>
  /** In the order of their deadlines. */
  private readonly runs = new Map<string, Queued>()
  private bytes = 0
  private doubtfulSince: number | null = null

  constructor(host: RunHost, enqueue: (lane: string, run: string) => Promise<unknown>) {
    this.host = host
    this.enqueue = enqueue
  }

  watch(run: string, lane: string, requestJson: string): void {
    this.forget(run)
    const isKept = this.bytes + requestJson.length <= keptBytesMost
    if (isKept) this.bytes += requestJson.length
    const until = this.host.now() + this.host.limits.runQueueMs
    this.runs.set(run, { until, lane, requestJson: isKept ? requestJson : null })
  }

  /** It is not queued any more, as far as this gateway knows. */
  forget(run: string): void {
    this.bytes -= this.runs.get(run)?.requestJson?.length ?? 0
    this.runs.delete(run)
  }

  /** Redis is away: it may come back without its data. */
  doubt(): void {
    if (this.runs.size > 0) this.doubtfulSince = this.host.now()
  }

  /** Once a second. */
  tick(now: number, tickMs: number): void {
    if (this.doubtfulSince !== null && now - this.doubtfulSince >= tickMs) void this.assure()
    for (const [run, { until }] of this.runs) {
      if (until > now) break
      this.forget(run)
      void this.expire(run)
    }
  }

  private async expire(run: string): Promise<void> {
    const { host } = this
    const event = failEvent('QUEUED_TOO_LONG', 'no producer took the run in time', true)
    const answer = await host.insist(
      () => host.logs.finish(run, event, 'queued'),
      () => true,
    )
    if (answer?.result !== 'finished') return
    host.counters.ended.failed++
    if (answer.job !== '') host.jobDone(answer.lane, answer.job)
    host.live.get(run)?.look()
  }

  private async assure(): Promise<void> {
    this.doubtfulSince = null
    const { host } = this
    for (const [run, { lane, requestJson }] of [...this.runs]) {
      if (!this.runs.has(run) || requestJson === null) continue
      try {
        if ((await host.pace.reads(() => host.logs.read(run, origin, 1))) !== null) continue
        await host.logs.create(run, { lane, requestJson })
        await this.enqueue(lane, run)
      } catch {
        this.doubt()
        return
      }
    }
  }
}
