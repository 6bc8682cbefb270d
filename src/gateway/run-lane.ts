import type { Job } from '../cluster/run-log.ts'
import { freePlaces, pickProducer } from '../core/run/dispatch.ts'
import { OwnedRun } from './owned-run.ts'
import type { RunHost } from './run-host.ts'
import type { RunProducer } from './run-producer.ts'

/** Runs of one pool and name: takes as many from the queue as the producers that are linked here have free places. */
export class RunLane {
  readonly name: string
  readonly producers = new Set<RunProducer>()
  private readonly host: RunHost
  /** Jobs that are asked for, or taken and not given yet. */
  private coming = 0
  private watching = false
  private pumping = false
  private again = false
  private scheduled = false

  constructor(host: RunHost, name: string) {
    this.host = host
    this.name = name
  }

  add(producer: RunProducer): void {
    // Names that clients think up cost nothing: only those that somebody makes are listened for.
    if (!this.watching) this.host.logs.queues.watch(this.name, () => this.pumpSoon())
    this.watching = true
    this.producers.add(producer)
  }

  get free(): number {
    return this.host.accepting ? freePlaces([...this.producers]) - this.coming : 0
  }

  pick(): RunProducer | null {
    return pickProducer([...this.producers])
  }

  pumpSoon(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(() => {
      this.scheduled = false
      void this.pump()
    })
  }

  /** Takes what waits, as far as there are places. Never rejects. */
  async pump(): Promise<void> {
    if (this.pumping) {
      this.again = true
      return
    }
    this.pumping = true
    do {
      this.again = false
      const count = this.free
      if (count > 0 && (await this.take(count)) === count) this.again = true
    } while (this.again)
    this.pumping = false
  }

  /** Asks for jobs at once. Resolves with how many came; never rejects. */
  async take(count: number): Promise<number> {
    return await this.accept(count, this.host.logs.queues.take(this.name, count), false)
  }

  /** Takes over jobs whose gateways are gone. */
  async takeOverdue(): Promise<void> {
    const count = this.free
    if (count <= 0) return
    const { logs, limits } = this.host
    await this.accept(count, logs.queues.takeOverdue(this.name, limits.runLeaseMs, count), true)
  }

  private async accept(count: number, asked: Promise<Job[]>, isOverdue: boolean): Promise<number> {
    this.coming += count
    let jobs: Job[] = []
    try {
      jobs = await asked
    } catch {
      // The log is away; the next look is soon.
    }
    this.coming -= count - jobs.length
    for (const job of jobs) void this.begin(job, isOverdue).finally(() => this.coming--)
    return jobs.length
  }

  private async begin({ job, run }: Job, isOverdue: boolean): Promise<void> {
    const { host } = this
    if (host.owned.has(run)) return
    host.expected.add(run)
    try {
      await this.claim(job, run, isOverdue)
    } finally {
      host.expected.delete(run)
      host.live.get(run)?.settle()
    }
  }

  private async claim(job: string, run: string, isOverdue: boolean): Promise<void> {
    const { host } = this
    const onLoss = this.pick()?.offer.onLoss ?? 'auto'
    const claim = { holder: host.id, job, onLoss, epoch: null }
    let answer: Awaited<ReturnType<typeof host.logs.claim>>
    try {
      answer = await host.logs.claim(run, claim)
    } catch {
      // Nobody knows whether the claim was made; when the lease ends, the job is overdue.
      return
    }
    if (answer.result === 'claimed') {
      const { epoch, base, requestJson, trace, queuedMs } = answer
      const owned = new OwnedRun(host, this, run, job, onLoss, {
        epoch,
        seq: 0,
        requestJson,
        trace,
        queuedMs,
        touched: base !== null,
        effects: false,
      })
      owned.announce(base)
      const producer = this.pick()
      if (producer === null) await owned.refused()
      else void owned.give(producer, base)
      return
    }
    // Of a run that is on its way to another server of a Redis Cluster; it is there when the job is overdue.
    if (answer.result === 'missing' && !isOverdue) return
    if (answer.result === 'held') return
    if (answer.result === 'failed') host.counters.ended.failed++
    host.jobDone(this.name, job)
    host.live.get(run)?.look()
  }
}
