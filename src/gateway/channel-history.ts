import { backoffMs } from '../core/backoff.ts'
import type { HistoryRule } from '../core/channel/history-rules.ts'
import { ChannelOrder, type OrderStep } from '../core/channel/order.ts'
import { RecentMessages } from '../core/channel/recent.ts'
import {
  answers,
  behind,
  type Found,
  isSamePosition,
  nowhere,
  readFrom,
  upTo,
} from '../core/channel/replay.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Position } from '../protocol/position.ts'
import type { Channel } from './channels.ts'
import { type ChannelVerdict, type SharedMessage, SharedMessages } from './client-connection.ts'
import type { HistoryReads } from './history-reads.ts'
import type { Session } from './session.ts'

export interface ChannelHistoryOptions {
  readonly rule: HistoryRule
  readonly reads: HistoryReads
  readonly random: () => number
}

/** A message of the history, encoded once for all who come back. */
interface StoredMessage extends SharedMessage {
  readonly position: Position
  shared?: SharedMessages
}

/** A client that is about to be in the channel. */
interface Wish {
  /** undefined: from now on. null: it was in the channel and knows no position. */
  readonly since: Position | null | undefined
  reads: number
}

const recentBytes = 256 * 1024
/** An answer may miss a client when the channel moves on meanwhile. */
const readsPerWish = 3
/** Between two reads that live messages make necessary, so that a flood of forged ones is no flood of reads. */
const spacingMs = 50
const backoffBaseMs = 100
const backoffCapMs = 5_000

/** A channel with history at one gateway: it keeps the order, fills gaps, and lets clients in where they left. */
export class ChannelHistory {
  private readonly channel: Channel
  private readonly options: ChannelHistoryOptions
  private readonly order = new ChannelOrder<StoredMessage>()
  private readonly recent: RecentMessages<StoredMessage>
  private readonly wishes = new Map<Session, Wish>()
  /** Where members are; null: not known. Within an answer the order is ahead of it. */
  private last: Position | null = null
  /** Before the subscription is live, or refused, a read would leave a hole behind it. */
  private subscribed = false
  private reading = false
  private failures = 0
  private timer: NodeJS.Timeout | null = null
  private closed = false

  constructor(channel: Channel, options: ChannelHistoryOptions) {
    this.channel = channel
    this.options = options
    this.recent = new RecentMessages(options.rule.size, recentBytes)
  }

  /** Clients that are not in the channel yet. */
  get waiting(): ReadonlyMap<Session, unknown> {
    return this.wishes
  }

  /** The end of what members have got; null: not known, or there is no history. */
  get position(): Position | null {
    return this.last === nowhere ? null : this.last
  }

  /** The subscription is live, or the bus is away and it will be live after an interruption. */
  opened(): void {
    this.subscribed = true
    this.ask()
  }

  receive(payload: Buffer, text: boolean, position: Position): void {
    const message = { payload, text, position }
    const arrival = this.order.receive(message)
    if (arrival === 'deliver' || arrival === 'restart') this.deliver(message)
    if (arrival === 'restart') this.tellGap()
    if (arrival === 'read') this.ask()
  }

  interrupted(): void {
    this.order.interrupted()
    this.stopWaiting()
    this.failures = 0
    this.ask()
  }

  join(session: Session, since: Position | null | undefined): void {
    if (this.serve(session, since, null)) return
    // The history was away a moment ago; that many come back is no reason to ask it more often.
    if (this.failures > 0 && this.timer !== null) {
      this.enter(session, since === undefined ? 'joined' : 'gap')
      return
    }
    this.wishes.set(session, { since, reads: 0 })
    this.ask()
  }

  leave(session: Session): void {
    this.wishes.delete(session)
  }

  close(): void {
    this.closed = true
    this.stopWaiting()
  }

  private deliver(message: StoredMessage): void {
    this.last = message.position
    this.recent.push(ownCopy(message))
    this.channel.deliver(message)
  }

  private ask(): void {
    if (!this.subscribed || this.reading || this.closed || this.timer !== null) return
    if (!this.order.due && this.wishes.size === 0) return
    this.reading = true
    const positions = [...this.wishes.values()].flatMap(({ since }) => since ?? [])
    const after = readFrom(this.order.last, positions)
    this.order.asked()
    this.options.reads.read(this.channel.name, after).then(
      ({ head, messages }) => this.answered({ after, head, messages }),
      (error: unknown) => this.failed(error),
    )
  }

  private answered(found: Found<StoredMessage>): void {
    this.reading = false
    if (this.closed) return
    this.failures = 0
    this.take(this.order.answered(found), found)
    // Held messages may have brought the channel to where a client is.
    this.settle(found)
    for (const [session, wish] of this.wishes) {
      if (++wish.reads < readsPerWish) continue
      this.wishes.delete(session)
      this.enter(session, 'gap')
    }
    if (this.order.due) this.askIn(spacingMs)
    else this.ask()
  }

  private failed(error: unknown): void {
    if (!(error instanceof EvenkeelError)) throw error
    this.reading = false
    if (this.closed) return
    this.take(this.order.failed(), null)
    for (const [session, { since }] of this.wishes) {
      this.wishes.delete(session)
      this.enter(session, since === undefined ? 'joined' : 'gap')
    }
    const retryMs = spacingMs + backoffMs(this.failures++, this.options.random, backoffBaseMs, backoffCapMs)
    if (this.order.due) this.askIn(retryMs)
  }

  private take(steps: readonly OrderStep<StoredMessage>[], found: Found<StoredMessage> | null): void {
    for (const step of steps) {
      if (step.do === 'deliver') for (const message of step.messages) this.deliver(message)
      else {
        this.last = step.last
        if (!this.recent.endsAt(step.last)) this.recent.clear()
        if (step.do === 'gap') this.tellGap()
        else this.settle(found!)
      }
    }
  }

  /** Lets those in whom the answer serves. */
  private settle(found: Found<StoredMessage>): void {
    const { last } = this
    const run = last === null ? null : upTo(last, found, (position) => this.recent.behind(position))
    if (run !== null) this.keep(run.messages)
    for (const [session, { since }] of this.wishes) {
      if (this.serve(session, since, { found, run })) this.wishes.delete(session)
    }
  }

  /** Those who come later need not read what was read for others. Both end where members are. */
  private keep(messages: readonly StoredMessage[]): void {
    for (let index = messages.length - this.recent.length - 1; index >= 0; index--)
      if (!this.recent.unshift(ownCopy(messages[index]!))) return
  }

  /** Lets a client in if it is known what it has missed. */
  private serve(
    session: Session,
    since: Position | null | undefined,
    read: { found: Found<StoredMessage>; run: ReturnType<typeof upTo<StoredMessage>> } | null,
  ): boolean {
    const { last } = this
    if (last === null) return false
    if (since === undefined || since === null) {
      this.enter(session, since === undefined ? 'joined' : 'gap')
      return true
    }
    const kept = isSamePosition(since, last) ? [] : this.recent.behind(since)
    if (kept !== null) {
      this.enter(session, 'continuous', kept)
      return true
    }
    if (read === null || !answers(since, read.found)) return false
    const { head } = read.found
    const isAhead = since.epoch === last.epoch && since.offset > last.offset
    // The channel is about to come to where the client is; before that it would get everything twice.
    if (isAhead && head?.epoch === since.epoch && since.offset <= head.offset) return false
    if (head === null || isAhead) {
      this.enter(session, 'gap')
      return true
    }
    if (read.run === null) return false
    const { messages, continuous } = behind(since, read.run)
    this.enter(session, continuous ? 'continuous' : 'gap', messages)
    return true
  }

  /** From here on the session is a member. */
  private enter(session: Session, verdict: ChannelVerdict, missed: readonly StoredMessage[] = []): void {
    const { channel } = this
    channel.flush()
    channel.members.add(session)
    let whole = true
    for (const message of missed) {
      message.shared ??= new SharedMessages(channel.name, [message])
      whole = session.deliverShared(channel, message.shared) && whole
    }
    session.connection?.verdict?.(channel.name, whole ? verdict : 'gap', this.position)
  }

  private tellGap(): void {
    const { channel, position } = this
    channel.flush()
    for (const { connection } of channel.members) connection?.verdict?.(channel.name, 'gap', position)
  }

  private askIn(ms: number): void {
    this.stopWaiting()
    this.timer = setTimeout(() => {
      this.timer = null
      this.ask()
    }, ms).unref()
  }

  private stopWaiting(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
  }
}

/** What is kept must not keep the whole of a socket's read with it. */
function ownCopy({ payload, text, position }: StoredMessage): StoredMessage {
  const copy = Buffer.allocUnsafeSlow(payload.length)
  payload.copy(copy)
  return { payload: copy, text, position }
}
