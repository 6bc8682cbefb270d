import { EvenkeelError } from '../protocol/errors.ts'
import { loadScript } from './redis-script.ts'
import type { RedisServers } from './redis-servers.ts'
import type { RedisSubscriptions } from './redis-subscriptions.ts'
import type { Job, QueueBounds, QueueFull, RunQueues } from './run-log.ts'

export interface RedisQueuesOptions {
  servers: RedisServers
  subscriptions: RedisSubscriptions
  prefix: string
}

const scripts = { add: loadScript('jobs-add'), take: loadScript('jobs-take'), done: loadScript('jobs-done') }

/** Queues of runs as Redis Streams with a consumer group, PROTOCOL.md §5.6. */
export class RedisQueues implements RunQueues {
  private readonly options: RedisQueuesOptions

  constructor(options: RedisQueuesOptions) {
    this.options = options
  }

  async add(lane: string, run: string, bounds: QueueBounds): Promise<{ job: string } | QueueFull> {
    const reply = await this.run('add', lane, [run, bounds.depthMost, bounds.ageMsMost, ''])
    const [job, depth, ageMs] = reply as [string, number | undefined, number | undefined]
    return job === '' ? { job: null, depth: Number(depth), ageMs: Number(ageMs) } : { job }
  }

  async take(lane: string, count: number): Promise<Job[]> {
    return jobsOf(await this.run('take', lane, [count, '']))
  }

  async takeOverdue(lane: string, idleMs: number, count: number): Promise<Job[]> {
    return jobsOf(await this.run('take', lane, [count, idleMs]))
  }

  async beat(lane: string, jobs: readonly string[]): Promise<void> {
    if (jobs.length === 0) return
    const key = this.key(lane)
    try {
      await this.options.servers.call(key, 'XCLAIM', [key, 'gateways', 'gateways', 0, ...jobs, 'JUSTID'])
    } catch (error) {
      // A queue that the server has lost: nothing of it can be overdue.
      if (!(error instanceof EvenkeelError) || error.code === 'NOT_READY') throw error
    }
  }

  async done(lane: string, job: string): Promise<void> {
    await this.run('done', lane, [job])
  }

  async putBack(lane: string, job: string, run: string): Promise<void> {
    await this.run('add', lane, [run, '', '', job])
    this.hint(lane)
  }

  hint(lane: string): void {
    const { servers } = this.options
    const channel = this.channel(lane)
    servers.call(channel, servers.sharded ? 'SPUBLISH' : 'PUBLISH', [channel, '']).catch(() => {})
  }

  watch(lane: string, listener: () => void): void {
    void this.options.subscriptions.subscribe(this.channel(lane), listener)
  }

  private run(
    script: keyof typeof scripts,
    lane: string,
    args: readonly (string | number)[],
  ): Promise<unknown> {
    return this.options.servers.run(scripts[script], [this.key(lane)], args)
  }

  private key(lane: string): string {
    return `${this.options.prefix}jobs:{${lane}}:queue`
  }

  private channel(lane: string): string {
    return `${this.options.prefix}jobs:{${lane}}:hint`
  }
}

function jobsOf(reply: unknown): Job[] {
  const flat = reply as string[]
  return Array.from({ length: flat.length / 2 }, (_, i) => ({ job: flat[2 * i]!, run: flat[2 * i + 1]! }))
}
