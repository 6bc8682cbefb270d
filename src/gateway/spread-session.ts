import { isEligible, participates } from '../core/balance/candidate.ts'
import type { Dispatcher } from '../core/balance/dispatcher.ts'
import { Lane, type LaneMessage } from './lane.ts'
import type { NodeEntry } from './node-entry.ts'
import { Session, type SessionHost, type SessionIdentity } from './session.ts'

/** What sessions of one pool with affinity `message` share. */
export interface SpreadPool {
  readonly dispatcher: Dispatcher<NodeEntry>
  /** The field whose value messages are kept in order by, or null. */
  orderBy(): string | null
  nodes(): readonly NodeEntry[]
  nextNumber(): number
  /** Records of this number are the lane's from now on. */
  addLane(lane: Lane): void
}

/** A session is open at no more nodes than this; each takes its own part of a larger pool. */
const nodesMax = 32

/** Messages with one value of the ordering field that are not committed: they are all at one lane. */
interface Order {
  readonly lane: Lane
  count: number
}

/**
 * A session whose messages go each by itself to the node with the least in flight. It is open at several nodes at once: at each it is a
 * `Lane`, a session of its own on the link, with numbers and credit of its own. What all of them send reaches the client as it comes.
 */
export class SpreadSession extends Session {
  private readonly spread: SpreadPool
  private readonly lanes = new Map<NodeEntry, Lane>()
  /** No node can take them now; the oldest first. */
  private pending: LaneMessage[] = []
  private readonly orders = new Map<string, Order>()
  /** Where its part of a large pool begins, 0 to 1. */
  private readonly offset: number
  private uncommittedMessages = 0
  private uncommittedBytes = 0

  constructor(host: SessionHost, identity: SessionIdentity, spread: SpreadPool) {
    super(host, identity)
    this.spread = spread
    // Numbers come one after the other; multiples of the golden ratio are spread evenly.
    this.offset = (this.number * 0.6180339887498949) % 1
  }

  get laneHost(): SessionHost {
    return this.host
  }

  override receive(payload: Buffer, text: boolean): boolean {
    if (this.closing !== null || this.ended) return false
    this.host.counters.messagesIn++
    this.uncommittedMessages++
    this.uncommittedBytes += payload.length
    this.dispatch({ payload, text, redelivered: false, order: this.orderOf(payload, text) })
    if (this.inboxIsFull) this.pauseClient()
    return true
  }

  override get inboxIsFull(): boolean {
    const { inboxMessages, inboxBytes } = this.host.limits
    return this.uncommittedMessages >= inboxMessages || this.uncommittedBytes >= inboxBytes
  }

  override get uncommitted(): number {
    return this.uncommittedMessages
  }

  override get hasNode(): boolean {
    return this.lanes.size > 0
  }

  override get movable(): boolean {
    return false
  }

  /** There is a node that can take it. */
  override open(node: NodeEntry): void {
    this.waitingSince = null
    if (!this.lanes.has(node)) this.openLane(node)
    this.pump()
  }

  override connectionDrained(): void {
    super.connectionDrained()
    for (const lane of this.lanes.values()) lane.connectionDrained()
  }

  /** Dispatches what waits, and closes behind it. */
  override pump(): void {
    const waiting = this.pending
    this.pending = []
    for (const message of waiting) this.dispatch(message)
    if (this.closing === null || this.pending.length > 0) return
    for (const lane of [...this.lanes.values()]) lane.clientHasLeft(this.closing.code, this.closing.reason)
    if (this.lanes.size === 0) this.end()
  }

  override abandon(code: number, reason: string): void {
    this.closeConnection(code, reason)
    this.host.counters.messagesLost += this.uncommittedMessages
    this.end()
  }

  override end(): void {
    if (this.ended) return
    super.end()
    this.pending = []
    for (const lane of [...this.lanes.values()]) lane.clientHasLeft(1000, '')
  }

  protected override detach(): void {
    super.detach()
    for (const lane of this.lanes.values()) lane.connection = null
  }

  // From its lanes.

  committedAt(orders: readonly (string | null)[], bytes: number): void {
    this.settled(orders)
    this.uncommittedMessages -= orders.length
    this.uncommittedBytes -= bytes
    const { inboxMessages, inboxBytes } = this.host.limits
    if (
      this.paused &&
      this.uncommittedMessages <= inboxMessages / 2 &&
      this.uncommittedBytes <= inboxBytes / 2
    ) {
      this.paused = false
      this.connection?.resume()
    }
  }

  /** The lane is no more; what its node did not commit goes to others. */
  laneLost(lane: Lane, messages: readonly LaneMessage[]): void {
    this.forget(lane)
    this.settled(messages.map(({ order }) => order))
    if (this.ended) return
    // They came before whatever waits.
    this.pending = [...messages, ...this.pending]
    this.pump()
    if (!this.ended && this.lanes.size === 0) this.host.assign(this)
  }

  /** The node has ended it, or had too much to say: that ends the whole session. */
  laneCloses(lane: Lane, code: number, reason: string): void {
    this.forget(lane)
    if (!this.ended) this.dismiss(code, reason)
  }

  laneEnded(lane: Lane): void {
    this.forget(lane)
    if (this.ended || this.lanes.size > 0) return
    if (this.closing !== null) this.pump()
    else this.host.assign(this)
  }

  private forget(lane: Lane): void {
    for (const [node, known] of this.lanes) if (known === lane) this.lanes.delete(node)
  }

  private settled(orders: readonly (string | null)[]): void {
    for (const order of orders) {
      const known = order === null ? undefined : this.orders.get(order)
      if (known !== undefined && --known.count === 0) this.orders.delete(order!)
    }
  }

  private dispatch(message: LaneMessage): void {
    // What waits came before.
    if (this.pending.length === 0 && this.give(message)) return
    this.pending.push(message)
    if (this.waitingSince === null) this.host.assign(this)
  }

  private give(message: LaneMessage): boolean {
    const { order } = message
    const ordered = order === null ? undefined : this.orders.get(order)
    const lane = ordered?.lane ?? this.pickLane()
    if (lane === null) return false
    if (ordered !== undefined) ordered.count++
    else if (order !== null) this.orders.set(order, { lane, count: 1 })
    lane.give(message)
    return true
  }

  private pickLane(): Lane | null {
    const node = this.spread.dispatcher.pick(this.candidates(), this.canTake)
    return node === null ? null : (this.lanes.get(node) ?? this.openLane(node))
  }

  private readonly canTake = (node: NodeEntry): boolean => {
    return this.lanes.has(node) ? participates(node) : isEligible(node)
  }

  private candidates(): readonly NodeEntry[] {
    const nodes = this.spread.nodes()
    if (nodes.length <= nodesMax) return nodes
    const start = Math.floor(this.offset * nodes.length)
    const own = Array.from({ length: nodesMax }, (_, i) => nodes[(start + i) % nodes.length]!)
    return [...new Set([...own, ...this.lanes.keys()])]
  }

  private openLane(node: NodeEntry): Lane {
    const lane = new Lane(this, this.spread.nextNumber(), this.lanes.size > 0)
    this.lanes.set(node, lane)
    this.spread.addLane(lane)
    lane.open(node)
    return lane
  }

  private orderOf(payload: Buffer, text: boolean): string | null {
    const orderBy = this.spread.orderBy()
    if (orderBy === null || !text) return null
    try {
      const value = (JSON.parse(payload.toString()) as Record<string, unknown> | null)?.[orderBy]
      return typeof value === 'string' || typeof value === 'number' ? `${typeof value} ${value}` : null
    } catch {
      // No JSON has no order.
      return null
    }
  }
}
