import type { Bus } from '../cluster/bus.ts'
import { RecordFlag, RecordType } from '../protocol/link-records.ts'
import { SharedMessages } from './client-connection.ts'
import type { NodeEntry } from './node-entry.ts'
import type { Session } from './session.ts'
import type { Turn } from './turn.ts'

interface SharedMessage {
  readonly payload: Buffer
  readonly text: boolean
}

/** A fan-out topic: who is in it here, and what came in this turn. */
export class Channel {
  readonly name: string
  readonly members = new Set<Session>()
  readonly nodes = new Set<NodeEntry>()
  private pending: SharedMessage[] = []
  private readonly turn: Turn

  constructor(name: string, turn: Turn) {
    this.name = name
    this.turn = turn
  }

  get empty(): boolean {
    return this.members.size === 0 && this.nodes.size === 0
  }

  receive(payload: Buffer, text: boolean): void {
    const flags = text ? RecordFlag.text : 0
    for (const { link } of this.nodes) link.putChannel(RecordType.published, flags, this.name, payload)
    if (this.members.size === 0) return
    this.pending.push({ payload, text })
    if (this.pending.length === 1) this.turn.collect(this.deliver)
  }

  private readonly deliver = (): void => {
    const shared = new SharedMessages(this.pending)
    this.pending = []
    for (const session of this.members) session.deliverShared(this, shared)
  }
}

/**
 * Channel membership of this gateway's sessions and nodes. It lives here, not at the nodes, so it survives migration by
 * itself. The bus is told about the first and the last member of each channel.
 */
export class Channels {
  private readonly channels = new Map<string, Channel>()
  private readonly bus: Bus
  private readonly turn: Turn

  constructor(bus: Bus, turn: Turn) {
    this.bus = bus
    this.turn = turn
  }

  get size(): number {
    return this.channels.size
  }

  membersHere(name: string): number {
    return this.channels.get(name)?.members.size ?? 0
  }

  /** Returns the channel, made when it is new. */
  open(name: string): Channel {
    let channel = this.channels.get(name)
    if (channel === undefined) {
      channel = new Channel(name, this.turn)
      this.channels.set(name, channel)
      const opened = channel
      // It rejects only when the bus is closed. While it is away the bus keeps the subscription and makes it live later.
      this.bus.subscribe(name, (payload, text) => opened.receive(payload, text)).catch(() => {})
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
    void this.bus.unsubscribe(channel.name)
  }

  nodeLost(node: NodeEntry): void {
    for (const channel of this.channels.values()) {
      if (channel.nodes.delete(node)) this.closeIfEmpty(channel)
    }
  }
}
