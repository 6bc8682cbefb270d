import type { Candidate } from '../core/balance/candidate.ts'
import type { LinkHealth } from '../core/health/heartbeat.ts'
import type { Steer } from '../protocol/link-records.ts'
import type { Move } from './migrator.ts'
import type { NodeState } from './operator.ts'
import type { Session } from './session.ts'

/** What operators see of where a node runs. */
export interface NodeDescription {
  readonly host: string
  /** null: an upstream, which tells nothing of itself. */
  readonly pid: number | null
  readonly version: string | null
  /** null: a node that is linked. */
  readonly url: string | null
  readonly linkRttMs: number | null
}

/**
 * A node as this gateway knows it, linked or known by its URL only. It is its own `Candidate`, so that policies need no copy.
 */
export abstract class NodeEntry implements Candidate {
  readonly id: string
  readonly pool: string
  readonly assigned = new Set<Session>()
  readonly connectedAt = Date.now()
  weight: number
  state: NodeState = 'active'
  health: LinkHealth = 'healthy'
  /** Moves that bring sessions here. */
  readonly incoming = new Set<Move>()
  /** Moves that take sessions away. */
  outgoing = 0
  /** The node refused a session; it gets none for now. */
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

  constructor(id: string, pool: string, weight: number) {
    this.id = id
    this.pool = pool
    this.weight = weight
  }

  abstract get maxSessions(): number | null

  /** Balance is no reason to move its sessions. */
  abstract get keepsSessions(): boolean

  /** As the planner sees it. */
  get planned(): Candidate {
    return this
  }

  abstract get description(): NodeDescription

  /** Sees to it that all gateways do what an operator wants of the node. */
  abstract steer(steer: Steer): void

  /** Its drain is done: nothing of this gateway is left there. */
  abstract drainEnded(): void

  refuse(): void {
    this.refusing = true
  }

  /** The deadline of its drain has passed: ends what is no session. */
  cutOff(): void {}

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

  get healthy(): boolean {
    return this.health === 'healthy' && !this.refusing && this.servesSessions
  }

  /** False: it makes runs only. */
  get servesSessions(): boolean {
    return true
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
