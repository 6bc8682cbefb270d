import type { Job, QueueBounds, QueueFull, RunQueues } from './run-log.ts'

interface Waiting extends Job {
  readonly since: number
}

interface Lane {
  readonly waiting: Waiting[]
  /** Given out: job → when something was heard of it. */
  readonly given: Map<string, { run: string; heardAt: number }>
}

/** Queues of runs inside one process, shared by its members. */
export class MemoryQueues implements RunQueues {
  private readonly now: () => number
  private readonly lanes = new Map<string, Lane>()
  private readonly listeners = new Map<string, Set<() => void>>()
  private jobs = 0

  constructor(now: () => number) {
    this.now = now
  }

  async add(lane: string, run: string, bounds: QueueBounds): Promise<{ job: string } | QueueFull> {
    const { waiting } = this.lane(lane)
    const depth = waiting.length
    const ageMs = depth === 0 ? 0 : this.now() - waiting[0]!.since
    if (depth >= bounds.depthMost || ageMs > bounds.ageMsMost) return { job: null, depth, ageMs }
    return { job: this.push(lane, run) }
  }

  async take(lane: string, count: number): Promise<Job[]> {
    const { waiting, given } = this.lane(lane)
    const taken = waiting.splice(0, count)
    for (const { job, run } of taken) given.set(job, { run, heardAt: this.now() })
    return taken
  }

  async takeOverdue(lane: string, idleMs: number, count: number): Promise<Job[]> {
    const overdue: Job[] = []
    for (const [job, entry] of this.lane(lane).given) {
      if (overdue.length === count) break
      if (this.now() - entry.heardAt < idleMs) continue
      entry.heardAt = this.now()
      overdue.push({ job, run: entry.run })
    }
    return overdue
  }

  async beat(lane: string, jobs: readonly string[]): Promise<void> {
    const { given } = this.lane(lane)
    for (const job of jobs) {
      const entry = given.get(job)
      if (entry !== undefined) entry.heardAt = this.now()
    }
  }

  async done(lane: string, job: string): Promise<void> {
    const { waiting, given } = this.lane(lane)
    given.delete(job)
    const at = waiting.findIndex((one) => one.job === job)
    if (at >= 0) waiting.splice(at, 1)
    if (waiting.length === 0 && given.size === 0) this.lanes.delete(lane)
  }

  async putBack(lane: string, job: string, run: string): Promise<void> {
    await this.done(lane, job)
    this.push(lane, run)
    this.hint(lane)
  }

  hint(lane: string): void {
    const listeners = this.listeners.get(lane)
    if (listeners !== undefined) queueMicrotask(() => listeners.forEach((listener) => void listener()))
  }

  watch(lane: string, listener: () => void): void {
    const known = this.listeners.get(lane)
    if (known === undefined) this.listeners.set(lane, new Set([listener]))
    else known.add(listener)
  }

  private push(lane: string, run: string): string {
    const job = String(++this.jobs)
    this.lane(lane).waiting.push({ job, run, since: this.now() })
    return job
  }

  private lane(name: string): Lane {
    let lane = this.lanes.get(name)
    if (lane === undefined) {
      lane = { waiting: [], given: new Map() }
      this.lanes.set(name, lane)
    }
    return lane
  }
}
