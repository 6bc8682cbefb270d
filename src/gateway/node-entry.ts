import type { Candidate } from '../core/balance/candidate.ts'
import type { LinkHealth } from '../core/health/heartbeat.ts'
import type { Link } from '../link/link.ts'
import { type Hello, RecordType, type Report, type Steer } from '../protocol/link-records.ts'
import type { Move } from './migrator.ts'
import type { NodeState } from './operator.ts'
import type { Session } from './session.ts'

/** A node as this gateway knows it. It is its own `Candidate`, so that policies need no copy. */
export class NodeEntry implements Candidate {
  readonly id: string
  readonly pool: string
  readonly hello: Hello
  readonly link: Link
  readonly assigned = new Set<Session>()
  readonly connectedAt = Date.now()
  weight: number
  state: NodeState = 'active'
  health: LinkHealth = 'healthy'
  /** Moves that bring sessions here. */
  readonly incoming = new Set<Move>()
  /** Moves that take sessions away. */
  outgoing = 0
  /** STEER records sent: reports that were made before the last of them say nothing of weight and drain. */
  steered = 0
  /** The node refused a session; it gets none until it reports again. */
  refusing = false
  /** Sessions that other gateways have given the node, by gateway. */
  others: ReadonlyMap<string, number> = new Map()
  elsewhere = 0
  /** What the node itself counts, as it said last. */
  reportedSessions = 0
  messages = 0
  messagesPerSecond = 0
  downAt: number | null = null
  private messagesBefore = 0

  constructor(hello: Hello, link: Link, weight: number) {
    this.id = hello.id
    this.pool = hello.pool
    this.hello = hello
    this.link = link
    this.weight = weight
  }

  /** Sessions at the node, over all gateways. */
  get total(): number {
    return this.assigned.size + this.elsewhere
  }

  /** A session that is moving counts where it goes, not twice. */
  get sessions(): number {
    return this.assigned.size - this.outgoing + this.elsewhere
  }

  get pending(): number {
    return this.incoming.size
  }

  get maxSessions(): number | null {
    return this.hello.maxSessions
  }

  get keepsSessions(): boolean {
    return this.hello.migrate === 'drain'
  }

  get healthy(): boolean {
    return this.health === 'healthy' && !this.refusing
  }

  get active(): boolean {
    return this.state === 'active'
  }

  /** Tells the node what an operator wants; it reports that to all its gateways. */
  steer(steer: Steer): void {
    this.steered++
    this.link.putJson(RecordType.steer, 0, 0, steer)
  }

  /** What the node says of all its gateways; about this one the gateway itself knows better. */
  reported({ gateways }: Report, ownId: string): void {
    const others = new Map(Object.entries(gateways))
    others.delete(ownId)
    this.others = others
    this.elsewhere = 0
    for (const count of others.values()) this.elsewhere += count
    this.reportedSessions = this.elsewhere + (gateways[ownId] ?? 0)
  }

  /** To be called once a second. */
  measureRate(): void {
    const weightOfNow = 0.5
    const lastSecond = this.messages - this.messagesBefore
    this.messagesBefore = this.messages
    this.messagesPerSecond += weightOfNow * (lastSecond - this.messagesPerSecond)
  }
}
