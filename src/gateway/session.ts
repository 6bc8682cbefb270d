import type { LoadMeter } from '../core/balance/load-meter.ts'
import { Inbox } from '../core/session/inbox.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import { RecordFlag, RecordType } from '../protocol/link-records.ts'
import type { Position } from '../protocol/position.ts'
import type { Channel, Channels } from './channels.ts'
import { type ClientConnection, SharedMessages } from './client-connection.ts'
import { linkOf } from './linked-node.ts'
import type { Move } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { Assignment, AssignmentReason, Counters, MigrationReason } from './operator.ts'
import type { ResumableSession } from './resumable-session.ts'
import type { Member, Rooms } from './rooms.ts'

/** What all sessions of a gateway share. */
export interface SessionHost {
  readonly limits: Readonly<Limits>
  readonly counters: Counters
  readonly channels: Channels
  readonly rooms: Rooms
  readonly slowConsumer: SlowConsumerPolicy
  /** Resumable sessions whose client is not there. */
  readonly detached: Set<ResumableSession>
  /** The gateway leaves. */
  readonly stopping: boolean
  now(): number
  /** When a client that loses its gateway should come back: the clients of a gateway are spread evenly. */
  nextRetryMs(): number
  /** The session goes on at another gateway. */
  goneElsewhere(id: string): void
  /** Gives the session to a node, or lets it wait for one. */
  assign(session: Session): void
  /** The node has the session now; it may have waited for one until here. */
  assigned(session: Session, node: NodeEntry, reason: AssignmentReason): void
  /** The session is over; forget it. */
  ended(session: Session): void
}

/** A window, an overdraft, what a node flushes before FIN, and one for good measure: who sends more ignores its credit. */
const creditTolerance = 4
/** Each hand-over that is called off has the node flush some more; a client that has not taken this many is too slow. */
const slowWindows = 3
/** A session that moves faster than its former nodes fall silent is listened to at this many of them. */
const formersKept = 8
const assignmentsKept = 16

/** What happens to a client that does not read what its channels get. */
export type SlowConsumerPolicy = 'close' | 'drop' | 'coalesce'

interface HeldOutput {
  readonly seq: number
  readonly payload: Buffer
  readonly text: boolean
}

/** `elsewhere`: the session goes on at another gateway, and nobody here knows. */
export type CommitOutcome = 'committed' | 'ended' | 'elsewhere'

interface CommitWaiter {
  readonly seq: number
  done(outcome: CommitOutcome): void
}

/** An earlier assignment, whose late output is still delivered. */
interface FormerAssignment {
  readonly node: NodeEntry
  readonly term: number
  readonly until: number
}

/** What a session is, and stays wherever it goes. */
export interface SessionIdentity {
  /** At this gateway. */
  readonly number: number
  readonly id: string
  readonly pool: string
  /** JSON in ASCII, as it goes to nodes. */
  readonly meta: string
  readonly address: string
  readonly transport: ClientConnection['transport']
}

/**
 * One client's conversation: its connection, its assignment, and what is on its way between the two.
 * Knows no policy: who gets the session is decided elsewhere.
 */
export class Session implements SessionIdentity {
  readonly number: number
  readonly id: string
  readonly pool: string
  readonly meta: string
  readonly address: string
  readonly transport: ClientConnection['transport']
  readonly openedAt = Date.now()
  /** What leads to its node where the pool's policy is `key-hash`; null: what the pool says does. */
  key: string | null = null
  readonly inbox = new Inbox()
  connection: ClientConnection | null = null
  node: NodeEntry | null = null
  term = 0
  /** The highest term offered to any node; those of moves that were called off are not used again. */
  highestTerm = 0
  move: Move | null = null
  migrations = 0
  /** The latest ones, the oldest first. */
  readonly assignments: Assignment[] = []
  /** What it sends and gets; null: nobody asks. */
  meter: LoadMeter | null = null
  /** When the session lost its node and found no other; null while it has one. */
  waitingSince: number | null = null
  /** The client has gone; the session ends when the node has handled what came before. */
  closing: { code: number; reason: string } | null = null
  ended = false
  protected readonly host: SessionHost
  /** Nodes that have had the session, as far as is known. */
  private openings = 0
  /** Client messages are kept back: the source is finishing. */
  protected holding = false
  protected paused = false
  protected closeSent = false
  /** A hand-over was called off: the node may have sent more than its credit, and rightly so. */
  private wasCalledOff = false
  /** The last state committed, as latin1: strings cost less than buffers and pin nothing. */
  protected state: string | null = null
  protected outputs = 0
  protected creditOwed = 0
  protected blocked = false
  private held: HeldOutput[] = []
  private heldBytes = 0
  private waiters: CommitWaiter[] = []
  /** The newest first. */
  private formers: FormerAssignment[] = []
  private channels: Set<Channel> | null = null
  /** What it is in the rooms, by scope; kept by `Rooms`. */
  readonly members = new Map<string, Member>()
  /** With `coalesce`: the latest of each channel that the client has not got. */
  protected latest: Map<Channel, SharedMessages> | null = null

  constructor(host: SessionHost, { number, id, pool, meta, address, transport }: SessionIdentity) {
    this.host = host
    this.number = number
    this.id = id
    this.pool = pool
    this.meta = meta
    this.address = address
    this.transport = transport
  }

  /** The client is there. */
  attach(connection: ClientConnection): void {
    this.connection = connection
    this.host.counters.connections[this.transport]++
  }

  protected detach(): void {
    if (this.connection === null) return
    this.connection = null
    this.host.counters.connections[this.transport]--
  }

  // From the client.

  /** Takes one message. Returns false once the client has closed. */
  receive(payload: Buffer, text: boolean): boolean {
    if (this.closing !== null || this.ended) return false
    const { inbox, host } = this
    inbox.push(payload, text)
    host.counters.messagesIn++
    this.meter?.count(payload.length)
    this.pump()
    if (this.inboxIsFull) this.pauseClient()
    return true
  }

  protected pauseClient(): void {
    if (this.paused || this.connection === null) return
    this.paused = true
    this.connection.pause()
  }

  get inboxIsFull(): boolean {
    const { inboxMessages, inboxBytes } = this.host.limits
    return this.inbox.length >= inboxMessages || this.inbox.bytes >= inboxBytes
  }

  connectionClosed(connection: ClientConnection, code: number, reason: string): void {
    if (this.connection !== connection) return
    this.detach()
    this.clientLeft(code, reason)
  }

  /** The client is gone for good: the session ends when its node has handled what came before. */
  protected clientLeft(code: number, reason: string): void {
    if (this.ended || this.closing !== null) return
    this.closing = { code, reason }
    this.blocked = false
    this.move?.sessionClosed()
    if (this.node !== null) this.grant()
    this.pump()
  }

  connectionDrained(): void {
    const { latest } = this
    if (latest !== null) {
      this.latest = null
      for (const [channel, shared] of latest) this.deliverShared(channel, shared)
    }
    if (!this.blocked) return
    this.blocked = false
    this.grant()
  }

  // Channels.

  /**
   * Returns false when the session is in as many channels as it may be.
   * `since`: the client was in the channel before, and this is the last position it knows.
   */
  join(name: string, since?: Position | null): boolean {
    this.channels ??= new Set()
    const known = this.host.channels.get(name)
    if (known !== undefined && this.channels.has(known)) return true
    if (this.channels.size >= this.host.limits.channelsPerSession) return false
    const channel = this.host.channels.open(name)
    this.channels.add(channel)
    channel.join(this, since)
    return true
  }

  leave(name: string): void {
    const channel = this.host.channels.get(name)
    if (channel === undefined || !this.channels?.delete(channel)) return
    channel.leave(this)
    this.host.channels.closeIfEmpty(channel)
  }

  protected channelNames(): string[] {
    return this.channels === null ? [] : [...this.channels].map(({ name }) => name)
  }

  /** After the client was away: `since` says how far it came in each channel. */
  protected rejoinAll(since: (name: string) => Position | null | undefined): void {
    for (const channel of this.channels ?? []) channel.join(this, since(channel.name))
  }

  private leaveAll(): void {
    if (this.channels === null) return
    for (const channel of this.channels) {
      channel.leave(this)
      this.host.channels.closeIfEmpty(channel)
    }
    this.channels = null
  }

  /** A message to all who are in some rooms. As with channels no credit is taken, so a client that reads slowly is closed, or misses it. */
  deliverCast(shared: SharedMessages, isVolatile: boolean): void {
    const { connection, host } = this
    if (connection === null || (isVolatile && !takesVolatile(connection))) return
    if (connection.pendingBytes <= host.limits.clientBufferBytes || connection.keepsUp()) {
      host.counters.messagesOut++
      connection.deliverShared(shared)
    } else if (host.slowConsumer === 'close') {
      host.counters.slowConsumers.close++
      this.closeClient(CloseCode.slowConsumer, 'the client reads too slowly')
    } else {
      host.counters.slowConsumers.drop++
    }
  }

  /**
   * What a channel got in this turn. No credit is taken: the publisher is not this session's node. Returns false when a client that
   * reads slowly has missed some of it.
   */
  deliverShared(channel: Channel, shared: SharedMessages): boolean {
    const { connection, host } = this
    if (connection === null) return true
    if (connection.pendingBytes <= host.limits.clientBufferBytes || connection.keepsUp()) {
      host.counters.messagesOut += shared.messages.length
      connection.deliverShared(shared)
      return true
    }
    if (host.slowConsumer === 'close') {
      host.counters.slowConsumers.close++
      this.closeClient(CloseCode.slowConsumer, 'the client reads too slowly')
    } else if (host.slowConsumer === 'drop') {
      host.counters.slowConsumers.drop += shared.messages.length
    } else {
      const before = this.latest?.get(channel)
      host.counters.slowConsumers.coalesce += shared.messages.length - 1 + (before === undefined ? 0 : 1)
      this.latest ??= new Map()
      this.latest.set(channel, new SharedMessages(channel.name, shared.messages.slice(-1)))
    }
    return false
  }

  // From the node.

  commit(ack: number, state: string | null): void {
    if (!this.inbox.commit(ack)) {
      throw new EvenkeelError(
        'RECORD_INVALID',
        `COMMIT of message ${ack}, but only ${this.inbox.sent} were sent`,
      )
    }
    if (state !== null) this.state = state
    this.meter?.handled(this.inbox.sent > this.inbox.acked, this.host.now())
    if (this.node?.times(this)) this.node.timedCommit(ack, this.host.now())
    this.deliverHeld()
    this.committed(ack)
    while (this.waiters.length > 0 && this.waiters[0]!.seq <= ack) this.waiters.shift()!.done('committed')
    if (
      this.paused &&
      this.inbox.length <= this.host.limits.inboxMessages / 2 &&
      this.inbox.bytes <= this.host.limits.inboxBytes / 2
    ) {
      this.paused = false
      this.connection?.resume()
    }
  }

  protected committed(_ack: number): void {}

  /** `done` hears what becomes of the message with this number, which is not committed yet. */
  protected whenCommitted(seq: number, done: CommitWaiter['done']): void {
    // They are told in the order of their numbers.
    this.waiters.splice(this.waiters.findLastIndex((one) => one.seq <= seq) + 1, 0, { seq, done })
  }

  output(flags: number, seq: number, batch: Buffer, start: number, end: number): void {
    const text = (flags & RecordFlag.text) !== 0
    if ((flags & RecordFlag.late) !== 0) {
      this.deliver(0, batch, start, end, text)
      return
    }
    if (seq !== this.outputs + 1) {
      if (seq <= this.outputs) {
        this.host.counters.messagesDuplicated++
        return
      }
      this.host.counters.messagesLost += seq - this.outputs - 1
    }
    this.outputs = seq
    this.node!.bytes += end - start
    this.meter?.count(end - start)
    if ((flags & RecordFlag.volatile) !== 0 && !this.takesVolatile) {
      this.creditOwed += end - start
      if (!this.blocked) this.grant()
    } else if ((flags & RecordFlag.held) === 0) {
      this.deliver(seq, batch, start, end, text)
    } else {
      this.held.push({ seq, payload: batch.subarray(start, end), text })
      this.heldBytes += end - start
    }
    const { clientBufferBytes, messageBytes } = this.host.limits
    const owed = this.unacknowledgedBytes + this.heldBytes - messageBytes
    if (owed > creditTolerance * clientBufferBytes)
      throw new EvenkeelError('RECORD_INVALID', `OUTPUT far beyond the credit of ${clientBufferBytes} bytes`)
    if (this.wasCalledOff && owed > slowWindows * clientBufferBytes && this.closing === null) {
      this.host.counters.slowConsumers.close++
      this.dismiss(CloseCode.slowConsumer, 'the client reads too slowly')
    }
  }

  protected get takesVolatile(): boolean {
    return this.connection !== null && takesVolatile(this.connection)
  }

  closedByNode(code: number, reason: string): void {
    this.deliverHeld()
    if (code === CloseCode.slowConsumer) this.host.counters.slowConsumers.close++
    this.closeConnection(code, reason)
    this.end()
  }

  /** Output of an assignment before this one: delivered, unless it comes too late. Returns false when it is stale. */
  lateOutput(
    node: NodeEntry,
    term: number,
    flags: number,
    batch: Buffer,
    start: number,
    end: number,
  ): boolean {
    if ((flags & RecordFlag.late) === 0) return false
    const former = this.formers.find((one) => one.node === node && one.term === term)
    if (former === undefined || this.host.now() > former.until) return false
    this.deliver(0, batch, start, end, (flags & RecordFlag.text) !== 0)
    return true
  }

  // Assignment.

  /** Whether it can be taken to another node while it lives. */
  get movable(): boolean {
    return true
  }

  /** Client messages that no node has committed. */
  get uncommitted(): number {
    return this.inbox.length
  }

  get hasNode(): boolean {
    return this.node !== null
  }

  /** Operators see it; others are parts of one that they see. */
  get listed(): boolean {
    return true
  }

  /** Its node is to be emptied. Those that can be moved are; others may have something to do. */
  nodeDrains(): void {}

  /** Nodes that it shall not get now, or null. */
  get avoids(): ReadonlySet<NodeEntry> | null {
    return null
  }

  /** It waits for a node. Returns true when those that it avoided may be tried again. */
  retry(): boolean {
    return false
  }

  /** The drain of its node ends, and it cannot be moved. */
  closeAtDeadline(): void {
    this.dismiss(CloseCode.serviceRestart, 'the server is drained')
  }

  nextTerm(): number {
    return ++this.highestTerm
  }

  /** The node has the session from now on, with what was committed last. */
  open(node: NodeEntry): void {
    const recovered = this.openings > 0
    this.assign(node, this.nextTerm())
    const flags =
      this.openFlags | (recovered ? RecordFlag.recovered : 0) | (this.state === null ? 0 : RecordFlag.state)
    linkOf(node).putFields(
      RecordType.open,
      flags,
      this.number,
      this.term,
      [this.initialCredit, this.inbox.acked, this.outputs, this.meta.length],
      this.meta + (this.state ?? ''),
    )
    this.opened()
    this.pump()
  }

  prepare(target: NodeEntry, term: number): void {
    linkOf(target).putFields(
      RecordType.prepare,
      this.openFlags | (this.state === null ? 0 : RecordFlag.state),
      this.number,
      term,
      [this.meta.length],
      this.meta + (this.state ?? ''),
    )
  }

  /** Messages are kept back until `activate` or `resume`. */
  quiesce(attempt: number): void {
    this.holding = true
    linkOf(this.node!).putU32(RecordType.quiesce, 0, this.number, this.term, attempt)
  }

  resume(attempt: number): void {
    this.holding = false
    this.wasCalledOff = true
    linkOf(this.node!).putU32(RecordType.resume, 0, this.number, this.term, attempt)
    this.pump()
  }

  /** The prepared target has the session. `sourceFinished`: FIN arrived; else the source is gone, and it may have begun messages. */
  activate(target: NodeEntry, term: number, sourceFinished: boolean, reason: MigrationReason): void {
    const now = this.host.now()
    const until = now + this.host.limits.lateOutputMs
    const formers = this.formers.filter((former) => former.until > now).slice(0, formersKept - 1)
    if (sourceFinished) formers.unshift({ node: this.node!, term: this.term, until })
    this.unassign(!sourceFinished)
    this.assign(target, term, reason)
    this.formers = formers
    this.migrations++
    linkOf(target).putFields(
      RecordType.activate,
      this.state === null ? 0 : RecordFlag.state,
      this.number,
      term,
      [this.initialCredit, this.inbox.acked, this.outputs],
      this.state ?? '',
    )
    this.opened()
    this.pump()
  }

  /** Flags of OPEN and PREPARE. */
  protected get openFlags(): number {
    return 0
  }

  /** The node has just been given the session. */
  protected opened(): void {}

  /** The node that had the session in this term may forget it: another one has it. */
  releaseFormer(node: NodeEntry, term: number): void {
    linkOf(node).put(RecordType.release, 0, this.number, term)
  }

  /** The target of a move that was called off may forget the session. */
  releaseTarget(target: NodeEntry, attempt: number): void {
    linkOf(target).put(RecordType.release, 0, this.number, attempt)
  }

  /** The node is gone, or does not want the session. `handled`: it may have begun what was sent to it. */
  unassign(handled: boolean): void {
    this.node?.assigned.delete(this)
    this.node?.forgetTimed(this)
    this.node = null
    this.holding = false
    this.closeSent = false
    // Nobody has got them, so their numbers are free again.
    this.outputs -= this.held.length
    this.held = []
    this.heldBytes = 0
    this.formers = []
    this.host.counters.messagesRedelivered += this.inbox.rewind(handled)
  }

  /** The node that was to have the session has never had it. */
  refused(): void {
    this.openings--
    this.unassign(false)
  }

  /** Takes the session from its node without asking it. */
  withdraw(): void {
    this.move?.step('cancelled')
    const { node, term } = this
    this.unassign(true)
    if (node !== null) this.releaseFormer(node, term)
  }

  /** The node has the session already, from another gateway. */
  protected adopt(node: NodeEntry, term: number): void {
    this.highestTerm = term
    this.assign(node, term, 'resumed')
  }

  protected get heldCount(): number {
    return this.held.length
  }

  protected assign(
    node: NodeEntry,
    term: number,
    reason: AssignmentReason = this.openings > 0 ? 'recovered' : 'opened',
  ): void {
    if (this.assignments.length === assignmentsKept) this.assignments.shift()
    this.assignments.push({ node: node.id, term, at: Date.now(), reason })
    this.node = node
    this.term = term
    this.openings++
    this.host.assigned(this, node, reason)
    this.waitingSince = null
    node.assigned.add(this)
    node.unmeasured++
  }

  /** Gives the node what it may have. To be called whenever something that held it back has changed. */
  pump(): void {
    const { node, inbox } = this
    if (node === null || this.holding) return
    const link = linkOf(node)
    if (link.congested) return
    for (let item = inbox.next(); item !== undefined; item = inbox.next()) {
      const flags = (item.text ? RecordFlag.text : 0) | (item.redelivered ? RecordFlag.redelivered : 0)
      link.putPayload(RecordType.message, flags, this.number, this.term, inbox.sent, item.payload)
      node.messages++
      node.bytes += item.payload.length
      if (node.wantsTime) node.time(this, inbox.sent, this.host.now())
    }
    if (this.meter !== null && inbox.sent > inbox.acked) this.meter.handling(this.host.now())
    if (this.closing !== null && !this.closeSent && this.move === null) {
      this.closeSent = true
      link.putClose(this.number, this.term, this.closing.code, this.closing.reason)
    }
  }

  /** Closes the client for good. The node, if there is one, hears of it and ends the session. */
  dismiss(code: number, reason: string): void {
    this.closeConnection(code, reason)
    this.detach()
    this.clientLeft(code, reason)
  }

  /** Closes the connection for a reason that is the gateway's own. */
  closeClient(code: number, reason: string): void {
    this.dismiss(code, reason)
  }

  /** The gateway leaves: the client is to go elsewhere. */
  askToMove(): void {
    this.closeClient(CloseCode.serviceRestart, 'the gateway stops')
  }

  gatewayStops(): void {
    this.closeClient(CloseCode.serviceRestart, 'the gateway stops')
    if (this.node === null) this.end()
  }

  protected closeConnection(code: number, reason: string): void {
    this.connection?.close(code, reason)
  }

  /** No node can take the session: it ends here, with what was not handled. */
  abandon(code: number, reason: string): void {
    this.closeConnection(code, reason)
    this.host.counters.messagesLost += this.inbox.length
    this.end()
  }

  /** `outcome`: what becomes of messages that are not committed. */
  end(outcome: CommitOutcome = 'ended'): void {
    if (this.ended) return
    this.ended = true
    this.move?.sessionClosed()
    for (const waiter of this.waiters) waiter.done(outcome)
    this.waiters = []
    this.leaveAll()
    this.host.rooms.leaveAll(this)
    this.unassign(false)
    this.detach()
    this.host.ended(this)
  }

  protected get initialCredit(): number {
    this.creditOwed = 0
    const window = this.host.limits.clientBufferBytes
    const pending = this.connection?.pendingBytes ?? 0
    // What the client has not taken yet is granted when it does.
    if (this.blocked) this.creditOwed = Math.min(pending, window)
    return window - this.creditOwed
  }

  /** What the node has sent and the client has not taken, as far as credit goes. */
  protected get unacknowledgedBytes(): number {
    return this.creditOwed
  }

  /** `seq` is 0 for late output. */
  protected deliver(_seq: number, batch: Buffer, start: number, end: number, text: boolean): void {
    const { connection, host } = this
    this.creditOwed += end - start
    if (connection === null) {
      this.grant()
      return
    }
    host.counters.messagesOut++
    if (connection.deliver(batch, start, end, text)) {
      if (!this.blocked && this.creditOwed >= host.limits.clientBufferBytes / 4) this.grant()
    } else if (!this.blocked) {
      this.blocked = true
      host.counters.backpressurePauses++
    }
  }

  private deliverHeld(): void {
    if (this.held.length === 0) return
    const held = this.held
    this.held = []
    this.heldBytes = 0
    for (const { seq, payload, text } of held) this.deliver(seq, payload, 0, payload.length, text)
  }

  protected grant(): void {
    if (this.creditOwed === 0 || this.node === null) return
    linkOf(this.node).putU32(RecordType.credit, 0, this.number, this.term, this.creditOwed)
    this.creditOwed = 0
  }
}

function takesVolatile(connection: ClientConnection): boolean {
  return connection.takesVolatile?.() ?? connection.keepsUp()
}

/** JSON without any character beyond ASCII, so that its length in bytes is its length. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
