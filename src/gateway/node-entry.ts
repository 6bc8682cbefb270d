import type { Candidate } from '../core/balance/candidate.ts'
import type { LinkHealth } from '../core/health/heartbeat.ts'
import type { Link } from '../link/link.ts'
import type { Hello, Report } from '../protocol/link-records.ts'
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
  /** The node refused a session; it gets none until it reports again. */
  refusing = false
  report: Report | null = null
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

  /** A session that is moving counts where it goes, not twice. */
  get sessions(): number {
    return this.assigned.size - this.outgoing
  }

  get pending(): number {
    return this.incoming.size
  }

  get maxSessions(): number | null {
    return this.hello.maxSessions
  }

  get healthy(): boolean {
    return this.health === 'healthy' && !this.refusing
  }

  get active(): boolean {
    return this.state === 'active'
  }

  /** To be called once a second. */
  measureRate(): void {
    const weightOfNow = 0.5
    const lastSecond = this.messages - this.messagesBefore
    this.messagesBefore = this.messages
    this.messagesPerSecond += weightOfNow * (lastSecond - this.messagesPerSecond)
  }
}
