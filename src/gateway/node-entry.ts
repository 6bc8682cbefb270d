import type { Candidate } from '../core/balance/candidate.ts'
import { ResponseTime } from '../core/balance/response-time.ts'
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
  /** It goes on purpose, or only its link is replaced: that it is down then says nothing against it. */
  excused = false
  /** When its slow start began; null: it has not. */
  warmSince: number | null = null
  warmth = 1
  /** Of its sessions here, both ways. */
  bytes = 0
  bytesPerSecond = 0
  /** Sessions that it was given since their bytes could be seen, fading as the average takes them in. */
  unmeasured = 0
  /** Messages whose time from the node's getting them to their commit is known, and the sum of `log1p` of it in ms: one stall must not outweigh all others. */
  timedMessages = 0
  timedLog = 0
  /** Single messages (affinity `message`) that it was given and has not committed. */
  inFlight = 0
  /** As the node says itself; null: it does not. */
  reportedLoad: number | null = null
  /** What the sessions of this gateway make there, in the measure of the pool. */
  ownLoad = 0
  /** What balance by load goes by, over all gateways; null: the pool is balanced by sessions. */
  load: number | null = null
  private readonly response = new ResponseTime()
  /** One message at a time is timed, of this session; null: none is. */
  private timed: Session | null = null
  private timedSeq = 0
  private timedAt = 0
  private bytesBefore = 0
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

  /** Of the application; null: it tells none. */
  get version(): string | null {
    return null
  }

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

  /** From a message to its commit, or from a request to its answer; undefined: nothing was answered yet. */
  get responseMs(): number | undefined {
    return this.response.ms
  }

  /** A request was answered. */
  answered(ms: number, now: number): void {
    this.response.add(ms, now)
  }

  /** Whether the next message is to be timed. */
  get wantsTime(): boolean {
    return this.timed === null
  }

  /** The message was given to the node. */
  time(session: Session, seq: number, now: number): void {
    this.timed = session
    this.timedSeq = seq
    this.timedAt = now
  }

  /** The time of its messages is known from the session's commits. */
  times(session: Session): boolean {
    return this.timed === session
  }

  timedCommit(ack: number, now: number): void {
    if (ack < this.timedSeq) return
    this.timed = null
    this.timedMessages++
    this.timedLog += Math.log1p(now - this.timedAt)
    this.response.add(now - this.timedAt, now)
  }

  /** Its commit will not come. */
  forgetTimed(session: Session): void {
    if (this.timed === session) this.timed = null
  }

  /** To be called once a second. */
  measure(now: number): void {
    const weightOfNow = 0.5
    const messages = this.messages - this.messagesBefore
    this.messagesBefore = this.messages
    this.messagesPerSecond += weightOfNow * (messages - this.messagesPerSecond)
    const bytes = this.bytes - this.bytesBefore
    this.bytesBefore = this.bytes
    this.bytesPerSecond += weightOfNow * (bytes - this.bytesPerSecond)
    this.unmeasured *= 1 - weightOfNow
    if (this.timed !== null) this.response.waited(now - this.timedAt)
  }
}
