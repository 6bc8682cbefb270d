import { RecordFlag, RecordType } from '../protocol/link-records.ts'
import type { ClientConnection } from './client-connection.ts'
import { linkOf } from './linked-node.ts'
import { Session } from './session.ts'
import type { SpreadSession } from './spread-session.ts'

/** One message of a session with affinity `message`. */
export interface LaneMessage {
  readonly payload: Buffer
  readonly text: boolean
  readonly redelivered: boolean
  /** Messages with the same one are in order; null: this one is in none. */
  readonly order: string | null
}

/** What a session with affinity `message` is at one of its nodes. It lives and dies with that node. */
export class Lane extends Session {
  private readonly whole: SpreadSession
  private readonly isFurther: boolean
  /** Of the messages that are not committed. */
  private orders: (string | null)[] = []

  /** `isFurther`: the session is open at another node already. */
  constructor(whole: SpreadSession, number: number, isFurther: boolean) {
    const { id, pool, meta, address, transport } = whole
    super(whole.laneHost, { number, id, pool, meta, address, transport })
    this.whole = whole
    this.isFurther = isFurther
    this.connection = whole.connection === null ? null : new LaneConnection(this, whole)
  }

  give({ payload, text, redelivered, order }: LaneMessage): void {
    this.inbox.push(payload, text, redelivered)
    this.orders.push(order)
    this.node!.inFlight++
    this.pump()
  }

  /** There is no state: whatever the node saves is not kept. */
  override commit(ack: number, _state: string | null): void {
    const { node, inbox } = this
    const [messages, bytes] = [inbox.length, inbox.bytes]
    super.commit(ack, null)
    const count = messages - inbox.length
    node!.inFlight -= count
    this.whole.committedAt(this.orders.splice(0, count), bytes - inbox.bytes)
    if (inbox.length === 0 && node!.state !== 'active') this.retire()
  }

  override get listed(): boolean {
    return false
  }

  override get movable(): boolean {
    return false
  }

  override join(name: string): boolean {
    return this.whole.join(name)
  }

  override leave(name: string): void {
    this.whole.leave(name)
  }

  override nodeDrains(): void {
    if (this.inbox.length === 0) this.retire()
  }

  override closeAtDeadline(): void {
    this.withdraw()
  }

  /** The node is gone or does not want it: the messages go elsewhere, the lane ends. */
  override unassign(handled: boolean): void {
    const { node, inbox } = this
    if (node === null) return
    super.unassign(handled)
    node.inFlight -= inbox.length
    if (this.ended) return
    const messages = inbox.takeAll().map((item, i) => ({ ...item, order: this.orders[i]! }))
    this.end()
    this.whole.laneLost(this, messages)
  }

  clientHasLeft(code: number, reason: string): void {
    this.connection = null
    this.clientLeft(code, reason)
  }

  /** The whole session sees to it. */
  override askToMove(): void {}
  override gatewayStops(): void {}

  override end(): void {
    if (this.ended) return
    const { node } = this
    super.end()
    // Without a node it was lost, and that is said otherwise.
    if (node !== null) this.whole.laneEnded(this)
  }

  protected override detach(): void {
    this.connection = null
  }

  protected override get openFlags(): number {
    return RecordFlag.stateless | (this.isFurther ? RecordFlag.recovered : 0)
  }

  private retire(): void {
    if (this.closing !== null || this.ended) return
    const { node, term } = this
    linkOf(node!).put(RecordType.release, 0, this.number, term)
    this.end()
  }
}

/** The client as one of the nodes has it. */
class LaneConnection implements ClientConnection {
  private readonly lane: Lane
  private readonly whole: SpreadSession

  constructor(lane: Lane, whole: SpreadSession) {
    this.lane = lane
    this.whole = whole
  }

  private get client(): ClientConnection {
    return this.whole.connection!
  }

  get transport() {
    return this.whole.transport
  }

  get pendingBytes(): number {
    return this.client.pendingBytes
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    return this.client.deliver(batch, start, end, text)
  }

  /** Channels deliver to the whole session. */
  deliverShared(): void {}

  takesVolatile(): boolean {
    return this.client.takesVolatile?.() ?? this.client.keepsUp()
  }

  keepsUp(): boolean {
    return this.client.keepsUp()
  }

  /** The whole session pauses its client. */
  pause(): void {}
  resume(): void {}

  close(code: number, reason: string): void {
    this.whole.laneCloses(this.lane, code, reason)
  }
}
