import type { Link } from '../link/link.ts'
import { type Hello, RecordType, type Report, type Steer } from '../protocol/link-records.ts'
import { type NodeDescription, NodeEntry } from './node-entry.ts'
import type { OwnedRun } from './owned-run.ts'
import type { RunProducer } from './run-producer.ts'

/** A node that dialled this gateway. */
export class LinkedNode extends NodeEntry {
  readonly hello: Hello
  readonly link: Link
  /** STEER records sent: reports that were made before the last of them say nothing of weight and drain. */
  steered = 0
  /** What it makes, by name. */
  readonly producers = new Map<string, RunProducer>()
  /** Runs that it makes for this gateway, by their number on the link. */
  readonly runs = new Map<number, OwnedRun>()
  /** Runs that it makes for other gateways, by name. */
  private readonly runCounts = new Map<string, number>()

  constructor(hello: Hello, link: Link, weight: number) {
    super(hello.id, hello.pool, weight)
    this.hello = hello
    this.link = link
  }

  get maxSessions(): number | null {
    return this.hello.maxSessions
  }

  override get version(): string | null {
    return this.hello.version === '' ? null : this.hello.version
  }

  get keepsSessions(): boolean {
    return this.hello.migrate === 'drain'
  }

  override get servesSessions(): boolean {
    return this.hello.sessions !== false
  }

  get description(): NodeDescription {
    const { host, pid, version } = this.hello
    return { host, pid, version, url: null, linkRttMs: this.link.rttMs }
  }

  /** Tells the node, which reports it to all its gateways. */
  steer(steer: Steer): void {
    this.steered++
    this.link.putJson(RecordType.steer, 0, 0, steer)
  }

  drainEnded(): void {
    if (!this.link.closed) this.link.put(RecordType.drained, 0, 0, 0)
  }

  /** What the node says of all its gateways; about this one the gateway itself knows better. */
  reported({ gateways, load, runs = {} }: Report, ownId: string): void {
    this.reportedLoad = load ?? null
    this.runCounts.clear()
    for (const [name, counts] of Object.entries(runs)) {
      const sum = Object.values(counts).reduce((total, count) => total + count, 0)
      this.runCounts.set(name, sum - (counts[ownId] ?? 0))
    }
    const others = new Map(Object.entries(gateways))
    others.delete(ownId)
    this.others = others
    this.elsewhere = 0
    for (const count of others.values()) this.elsewhere += count
    this.reportedSessions = this.elsewhere + (gateways[ownId] ?? 0)
  }

  runsElsewhere(name: string): number {
    return this.runCounts.get(name) ?? 0
  }
}

/** Where records of a session go. Only sessions of upstreams are ever given another kind of node: a pool has one kind. */
export function linkOf(node: NodeEntry): Link {
  return (node as LinkedNode).link
}
