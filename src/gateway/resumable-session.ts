import { isSameSecret } from '../link/token.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type Keep, RecordFlag, RecordType } from '../protocol/link-records.ts'
import type { ClientConnection } from './client-connection.ts'
import { linkOf } from './linked-node.ts'
import type { NodeEntry } from './node-entry.ts'
import {
  type Greeting,
  hashToken,
  newToken,
  type Resumable,
  type ResumableConnection,
  type ResumeRequest,
} from './resumable.ts'
import { type CommitOutcome, Session, type SessionHost, type SessionIdentity } from './session.ts'

/** What a node that was found says of a session that this gateway takes over. */
export interface TakenOver {
  readonly node: NodeEntry
  readonly term: number
  readonly acked: number
  /** The last message that the node has got. */
  readonly received: number
  readonly keys: readonly (readonly [key: string, seq: number])[]
  readonly state: string | null
  readonly channels: readonly string[]
}

/**
 * A session whose client can come back: it outlives the connection here, and this gateway at its node
 * (PROTOCOL.md §1.10).
 */
export class ResumableSession extends Session {
  readonly resumable: Resumable
  declare connection: ResumableConnection | null

  constructor(host: SessionHost, identity: SessionIdentity, resumable: Resumable) {
    super(host, identity)
    this.resumable = resumable
  }

  /** True when the token is one of this session's, and there is something to go on with. */
  accepts(tokenHash: string): boolean {
    return this.resumable.accepts(tokenHash) && !this.ended && this.closing === null
  }

  /** From where on the client can be given outputs: behind `out`, or later if it bears that; null: not at all. */
  outputsFrom(out: number, connection: ResumableConnection): number | null {
    const { kept } = this.resumable
    if (kept.reaches(out)) return out
    return out < kept.keptFrom && connection.missed !== undefined ? kept.keptFrom : null
  }

  // The client.

  /** A new session: the client is welcomed once a node keeps the token. */
  greetNew(connection: ResumableConnection, token: string, notRecovered: Greeting['reason']): void {
    const recovered = notRecovered === null ? null : false
    const since = () => null
    this.greet({ connection, token, recovered, reason: notRecovered, out: 0, from: 0, since })
  }

  /** The client has come back to this gateway: it is welcomed once the node keeps the new token. */
  reattach(
    connection: ResumableConnection,
    presentedHash: string,
    { out, since }: ResumeRequest,
    from: number,
  ): void {
    this.closeConnection(CloseCode.resumedElsewhere, 'the session goes on over another connection')
    this.disconnected()
    const token = newToken()
    this.resumable.retire([hashToken(token, this.transport), presentedHash])
    this.acknowledge(out)
    this.greet({ connection, token, recovered: true, reason: null, out, from, since })
    this.keep(null)
  }

  /** The session has come from another gateway, and its client with it, unless that has gone again. */
  takeOver({ node, term, acked, received, keys, state, channels }: TakenOver, greeting: Greeting): void {
    if (this.transport === 'websocket') {
      this.inbox.restore(acked)
    } else {
      this.inbox.adopt(acked, received)
      for (const [key, seq] of keys) if (seq <= received) this.resumable.rememberKey(key, seq)
    }
    this.state = state
    this.outputs = greeting.from
    // What the node keeps since TAKE counts as the first version: a move may come before there is another one.
    this.resumable.version = 1
    this.adopt(node, term)
    this.resumable.greeting = greeting
    greeting.connection.session = this
    if (greeting.connection.closed) this.connectionClosed(greeting.connection, CloseCode.abnormal, '')
    else this.welcome(greeting)
    for (const name of channels) this.join(name, greeting.since(name))
  }

  /** Takes the message with this number; what came before by another connection is passed over. Throws BAD_REQUEST. */
  receiveNumbered(seq: number, payload: Buffer, text: boolean): void {
    const { messageBytes } = this.host.limits
    if (payload.length > messageBytes)
      throw new EvenkeelError('BAD_REQUEST', `a message has at most ${messageBytes} bytes`)
    if (seq > this.inbox.last) this.receive(payload, text)
  }

  /**
   * Takes a message that came in a request of its own; `done` hears what became of it. A message whose key is known is
   * the one that came before.
   */
  post(payload: Buffer, text: boolean, key: string | null, done: (outcome: CommitOutcome) => void): void {
    if (this.closing !== null || this.ended) {
      done('ended')
      return
    }
    const { inbox, resumable, node } = this
    const known = key === null ? undefined : resumable.keyed?.get(key)
    const seq = known ?? inbox.last + 1
    if (seq <= inbox.acked) {
      done('committed')
      return
    }
    this.whenCommitted(seq, done)
    if (known !== undefined) {
      inbox.fill(seq, payload, text)
      return
    }
    if (key !== null) {
      resumable.rememberKey(key, seq)
      if (node !== null) this.putKey(node, key, seq)
    }
    this.receive(payload, text)
  }

  /** Whether a message with this key is here, so that its payload need not come again. */
  knows(key: string): boolean {
    const seq = this.resumable.keyed?.get(key)
    return seq !== undefined && !this.inbox.misses(seq)
  }

  /** The client has handled all outputs up to `out`. Throws BAD_REQUEST for what it cannot have got. */
  acknowledge(out: number): void {
    const { resumable } = this
    if (out > this.outputs - this.heldCount)
      throw new EvenkeelError('BAD_REQUEST', `output ${out} is acknowledged, but it was not sent`)
    if (out <= resumable.acked) return
    resumable.acked = out
    resumable.kept.prune(out)
    if (this.node !== null) linkOf(this.node).putU32(RecordType.acked, 0, this.number, this.term, out)
  }

  /** The client has shown that it got its welcome: the token before is worth nothing from now on. */
  tokenReceived(): void {
    const { resumable } = this
    if (resumable.tokens.length === 1) return
    resumable.retire()
    this.keep(null)
  }

  /** A client that posts has shown this token, which is one of the session's. */
  tokenShown(tokenHash: string): void {
    if (isSameSecret(tokenHash, this.resumable.tokens[0]!)) this.tokenReceived()
  }

  override connectionClosed(connection: ClientConnection, code: number, reason: string): void {
    const { greeting } = this.resumable
    if (greeting?.connection === connection) {
      this.resumable.greeting = null
      // Nobody knows the token of a session that was never welcomed.
      if (greeting.recovered === true) this.disconnected()
      else this.clientLeft(code, reason)
    } else if (this.connection === connection) {
      if (code === CloseCode.normal) super.connectionClosed(connection, code, reason)
      else this.disconnected()
    }
  }

  /** Lost by way of this connection, but the client may come back. */
  override closeClient(code: number, reason: string): void {
    this.closeConnection(code, reason)
    this.disconnected()
  }

  override askToMove(): void {
    this.connection?.move()
  }

  /** The node keeps the session for the gateway that its client goes to. */
  override gatewayStops(): void {
    this.closeConnection(CloseCode.serviceRestart, 'the gateway stops')
    this.end('elsewhere')
  }

  /** The client did not come back in time. */
  expire(): void {
    this.clientLeft(CloseCode.abnormal, 'the client did not come back')
  }

  /** By itself, not by its node. Returns false when it is in as many channels as it may be. */
  clientJoins(name: string): boolean {
    if (!this.join(name)) return false
    this.keep(null, [[name, true]])
    return true
  }

  clientLeaves(name: string): void {
    this.leave(name)
    this.keep(null, [[name, false]])
  }

  // The node.

  nodeKeeps(version: number): void {
    this.resumable.nodeKeeps(version)
  }

  /** Another gateway has the session. */
  taken(): void {
    this.closeConnection(CloseCode.resumedElsewhere, 'the session goes on over another connection')
    this.host.goneElsewhere(this.id)
    this.end('elsewhere')
  }

  /** A node that may get the session has to know who may take it away again. */
  override prepare(target: NodeEntry, term: number): void {
    super.prepare(target, term)
    this.putKeep(target, term, null)
  }

  override releaseFormer(node: NodeEntry, term: number): void {
    const { resumable } = this
    // Without a node now, the next one it gets will be given the next version.
    const version = this.node === null ? resumable.version + 1 : resumable.version
    resumable.whenKept(version, () => super.releaseFormer(node, term))
  }

  override unassign(handled: boolean): void {
    super.unassign(handled)
    // What only the former node had is lost. Nobody was told that it is committed: a client that sends it again is right.
    this.resumable.keyed?.forget((seq) => this.inbox.misses(seq))
  }

  override end(outcome: CommitOutcome = 'ended'): void {
    if (this.ended) return
    this.resumable.greeting = null
    this.host.detached.delete(this)
    super.end(outcome)
    this.resumable.end()
  }

  protected override get openFlags(): number {
    return RecordFlag.resumable
  }

  /** Its outputs are numbered for the client too: none may be missing. */
  protected override get takesVolatile(): boolean {
    return true
  }

  protected override get initialCredit(): number {
    return this.host.limits.clientBufferBytes
  }

  protected override get unacknowledgedBytes(): number {
    return this.resumable.kept.bytes
  }

  protected override opened(): void {
    this.keep([...this.channelNames()])
    const { kept, acked } = this.resumable
    for (const { seq, data } of kept.behind(acked)) {
      const flags = data.text ? RecordFlag.text : 0
      linkOf(this.node!).putPayload(RecordType.tail, flags, this.number, this.term, seq, data.payload)
    }
    for (const [key, seq] of this.resumable.keyed?.entries() ?? []) this.putKey(this.node!, key, seq)
  }

  protected override committed(ack: number): void {
    this.connection?.acknowledge(ack)
  }

  protected override deliver(seq: number, batch: Buffer, start: number, end: number, text: boolean): void {
    const { connection, host } = this
    if (this.closing !== null) return
    if (seq > 0) {
      const payload = Buffer.from(batch.subarray(start, end))
      this.resumable.kept.append(seq, { payload, text }, payload.length)
    }
    if (connection === null) return
    host.counters.messagesOut++
    if (seq > 0) connection.deliver(batch, start, end, text)
    else connection.deliverLate(batch, start, end, text)
  }

  /** Credit follows from what the client acknowledges. */
  protected override grant(): void {}

  protected override closeConnection(code: number, reason: string): void {
    super.closeConnection(code, reason)
    const { greeting } = this.resumable
    this.resumable.greeting = null
    greeting?.connection.close(code, reason)
  }

  private greet(greeting: Greeting): void {
    const { resumable } = this
    resumable.greeting = greeting
    greeting.connection.session = this
    resumable.whenKept(resumable.version + 1, () => {
      if (resumable.greeting === greeting) this.welcome(greeting)
    })
  }

  private welcome(greeting: Greeting): void {
    const { connection, token, recovered, reason, out, from, since } = greeting
    const { resumable, inbox, host } = this
    resumable.greeting = null
    resumable.expired = false
    resumable.detachedAt = null
    host.detached.delete(this)
    this.attach(connection)
    connection.welcome({
      session: this.id,
      token,
      recovered,
      reason,
      ack: inbox.acked,
      last: inbox.last,
      out,
      resumeMs: host.limits.resumeMs,
      retryMs: host.nextRetryMs(),
      messageBytes: host.limits.messageBytes,
    })
    if (from > out) connection.missed!(from)
    for (const { data } of resumable.kept.behind(from))
      connection.deliver(data.payload, 0, data.payload.length, data.text)
    // Whatever a new session is in, its node has just let it join.
    this.rejoinAll(recovered === true ? since : () => undefined)
    if (this.inboxIsFull) this.pauseClient()
    if (host.stopping) this.askToMove()
  }

  private putKey(node: NodeEntry, key: string, seq: number): void {
    linkOf(node).putText(RecordType.key, 0, this.number, this.term, seq, key)
  }

  private keep(channels: string[] | null, changed?: Keep['changed']): void {
    const { resumable, node, move } = this
    if (node === null) return
    resumable.version++
    this.putKeep(node, this.term, channels, changed)
    if (move !== null) this.putKeep(move.to, move.attempt, null)
  }

  private putKeep(node: NodeEntry, term: number, channels: string[] | null, changed?: Keep['changed']): void {
    const { version, tokens, acked: out } = this.resumable
    linkOf(node).putJson(RecordType.keep, this.number, term, {
      version,
      tokens,
      out,
      channels,
      ...(changed === undefined ? {} : { changed }),
    } satisfies Keep)
  }

  /** The client is not there; it has some time to come back. */
  private disconnected(): void {
    this.detach()
    this.paused = false
    this.blocked = false
    this.latest = null
    if (this.ended || this.closing !== null) return
    this.resumable.detachedAt ??= this.host.now()
    this.host.detached.add(this)
  }
}
