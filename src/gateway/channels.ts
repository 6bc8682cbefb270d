import type { ClusterMember } from '../cluster/member.ts'
import { type HistoryRule, historyRuleFor } from '../core/channel/history-rules.ts'
import { RecordFlag, RecordType } from '../protocol/link-records.ts'
import type { Position } from '../protocol/position.ts'
import { ChannelHistory, type ChannelHistoryOptions } from './channel-history.ts'
import { type SharedMessage, SharedMessages } from './client-connection.ts'
import { HistoryReads } from './history-reads.ts'
import type { LinkedNode } from './linked-node.ts'
import type { Session } from './session.ts'
import type { Turn } from './turn.ts'

/** A fan-out topic: who is in it here, and what came in this turn. */
export class Channel {
  readonly name: string
  readonly members = new Set<Session>()
  readonly nodes = new Set<LinkedNode>()
  /** null: what is published is not kept. */
  readonly history: ChannelHistory | null
  private pending: SharedMessage[] = []
  /** Members that read slowly and have missed something that is in the history. */
  private readonly lagging = new Set<Session>()
  private readonly turn: Turn

  constructor(name: string, turn: Turn, history: ChannelHistoryOptions | null) {
    this.name = name
    this.turn = turn
    this.history = history === null ? null : new ChannelHistory(this, history)
  }

  get empty(): boolean {
    return this.sessions === 0 && this.nodes.size === 0
  }

  /** Members, and clients that are about to be. */
  get sessions(): number {
    return this.members.size + (this.history?.waiting.size ?? 0)
  }

  /**
   * Makes the session a member, anew if it is one. `since` undefined: from now on. Else its client has come back, and this is the last
   * position that it knows: it gets what it has missed, as far as that is kept, and a word on whether that is all.
   */
  join(session: Session, since: Position | null | undefined): void {
    this.leave(session)
    if (this.history !== null) {
      this.history.join(session, since)
      return
    }
    this.members.add(session)
    if (since !== undefined) session.connection?.verdict?.(this.name, 'gap', null)
  }

  leave(session: Session): void {
    this.members.delete(session)
    this.lagging.delete(session)
    this.history?.leave(session)
  }

  receive(payload: Buffer, text: boolean, position: Position | null): void {
    if (this.history !== null && position !== null) this.history.receive(payload, text, position)
    else this.deliver({ payload, text, position: null })
  }

  /** Gives the message to nodes now, to members at the end of the turn. */
  deliver(message: SharedMessage): void {
    const flags = message.text ? RecordFlag.text : 0
    for (const { link } of this.nodes)
      link.putChannel(RecordType.published, flags, this.name, message.payload)
    if (this.sessions === 0) return
    this.pending.push(message)
    if (this.pending.length === 1) this.turn.collect(this.flush)
  }

  /** Gives members what is pending now. */
  readonly flush = (): void => {
    if (this.pending.length === 0) return
    const { pending, history } = this
    this.pending = []
    const shared = new SharedMessages(this.name, pending)
    for (const session of this.members) {
      const whole = session.deliverShared(this, shared)
      if (history !== null) this.follow(session, whole, pending.at(-1)!.position)
    }
    if (history === null || history.waiting.size === 0) return
    // What has no position cannot be made up for later.
    const beside = pending.filter(({ position }) => position === null)
    if (beside.length === 0) return
    const sharedBeside = new SharedMessages(this.name, beside)
    for (const session of history.waiting.keys()) session.deliverShared(this, sharedBeside)
  }

  private follow(session: Session, whole: boolean, position: Position | null): void {
    if (!whole) this.lagging.add(session)
    else if (this.lagging.delete(session)) session.connection?.verdict?.(this.name, 'gap', position)
  }
}

export interface ChannelsOptions {
  readonly cluster: Pick<ClusterMember, 'bus' | 'history'>
  readonly turn: Turn
  /** Which channels have a history; the first rule that matches counts. */
  readonly rules: readonly HistoryRule[]
  readonly random: () => number
}

/**
 * Channel membership of this gateway's sessions and nodes. It lives here, not at the nodes, so it survives migration by
 * itself. The bus is told about the first and the last member of each channel.
 */
export class Channels {
  private options: ChannelsOptions
  private readonly channels = new Map<string, Channel>()
  private readonly reads: HistoryReads
  private watching = false

  constructor(options: ChannelsOptions) {
    this.options = options
    this.reads = new HistoryReads(options.cluster.history)
    this.watchGaps()
  }

  /** Channels that somebody is in here stay as they are until they are empty; what is published is kept by the new rules at once. */
  configure(rules: readonly HistoryRule[]): void {
    this.options = { ...this.options, rules }
    this.watchGaps()
  }

  private watchGaps(): void {
    if (this.watching || this.options.rules.length === 0) return
    this.watching = true
    this.options.cluster.bus.onGap((names) => {
      for (const name of names) this.channels.get(name)?.history?.interrupted()
    })
  }

  get size(): number {
    return this.channels.size
  }

  membersHere(name: string): number {
    return this.channels.get(name)?.sessions ?? 0
  }

  /** Rejects as `Bus.publish` does. */
  async publish(name: string, payload: Buffer, text: boolean): Promise<void> {
    const { cluster, rules } = this.options
    const rule = historyRuleFor(rules, name)
    if (rule === null) await cluster.bus.publish(name, payload, text)
    else await cluster.history.publish(name, payload, text, rule)
  }

  /** Where the channel's history ends; null: it has none, or Redis is away and nobody here knows. */
  async head(name: string): Promise<Position | null> {
    const { cluster, rules } = this.options
    if (historyRuleFor(rules, name) === null) return null
    return await cluster.history.read(name, null).then(
      ({ head }) => head,
      () => this.channels.get(name)?.history?.position ?? null,
    )
  }

  /** Returns the channel, made when it is new. */
  open(name: string): Channel {
    let channel = this.channels.get(name)
    if (channel === undefined) {
      const { cluster, turn, rules, random } = this.options
      const rule = historyRuleFor(rules, name)
      channel = new Channel(name, turn, rule === null ? null : { rule, reads: this.reads, random })
      this.channels.set(name, channel)
      const opened = channel
      // It rejects only when the bus is closed. While it is away the bus keeps the subscription and makes it live later.
      cluster.bus
        .subscribe(name, (payload, text, position) => opened.receive(payload, text, position))
        .then(
          () => opened.history?.opened(),
          () => {},
        )
    }
    return channel
  }

  get(name: string): Channel | undefined {
    return this.channels.get(name)
  }

  /** Forgets the channel when nobody is left in it. */
  closeIfEmpty(channel: Channel): void {
    if (!channel.empty || this.channels.get(channel.name) !== channel) return
    this.channels.delete(channel.name)
    channel.history?.close()
    void this.options.cluster.bus.unsubscribe(channel.name)
  }

  nodeLost(node: LinkedNode): void {
    for (const channel of this.channels.values()) {
      if (channel.nodes.delete(node)) this.closeIfEmpty(channel)
    }
  }
}
