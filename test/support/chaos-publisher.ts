import { setTimeout as pause } from 'node:timers/promises'
import type { Random } from './random.ts'
import type { ResumableCluster } from './resumable-cluster.ts'
import { publishAt } from './resumable-gateway.ts'
import type { Published } from './resumable-room.ts'
import { until } from './until.ts'

const retryMs = 100

/** Numbers what it publishes to each channel, one call after the other, by whatever gateway is running. */
export class ChaosPublisher {
  readonly published: Record<string, Published>
  failures = 0
  /** The last message of each channel that is certain. */
  private readonly certain = new Map<string, number>()
  private readonly looks = new Set<() => void>()
  private readonly cluster: ResumableCluster
  private readonly random: Random
  private readonly loops: Promise<void>[] = []
  private stopped = false

  constructor(cluster: ResumableCluster, rooms: readonly string[], random: Random) {
    this.cluster = cluster
    this.random = random
    this.published = Object.fromEntries(rooms.map((room) => [room, { last: 0, uncertain: [] }]))
  }

  get count(): number {
    return Object.values(this.published).reduce((sum, { last }) => sum + last, 0)
  }

  /** To each channel so often. */
  start(perSecond: number): void {
    const everyMs = 1_000 / perSecond
    for (const room of Object.keys(this.published)) this.loops.push(this.loop(room, everyMs))
  }

  /** Resolves when every channel has a message that was published after now and is certain: their numbers. */
  async fresh(): Promise<Record<string, number>> {
    const before = Object.entries(this.published).map(([room, { last }]) => [room, last] as const)
    const passed = () => before.every(([room, last]) => (this.certain.get(room) ?? 0) > last)
    await until(passed, this.looks, { what: 'a message in every channel' })
    return Object.fromEntries(this.certain)
  }

  /** Resolves when every channel has a last message that is certain. */
  async stop(): Promise<void> {
    this.stopped = true
    await Promise.all(this.loops)
    await Promise.all(Object.keys(this.published).map((room) => this.end(room)))
  }

  private async loop(room: string, everyMs: number): Promise<void> {
    await pause(this.random.next() * everyMs)
    while (!this.stopped) {
      await this.publish(room)
      await pause(everyMs * (0.5 + this.random.next()))
    }
  }

  private async end(room: string): Promise<void> {
    while (!(await this.publish(room))) await pause(retryMs)
  }

  /** False when nobody knows whether the message went out. */
  private async publish(room: string): Promise<boolean> {
    const gateway = this.random.pick(this.cluster.runningGateways)
    const book = this.published[room]!
    const n = ++book.last
    if (await publishAt(gateway, room, String(n))) {
      this.certain.set(room, n)
      for (const look of [...this.looks]) look()
      return true
    }
    this.failures++
    book.uncertain.push(n)
    return false
  }
}
