import { EvenkeelError } from '../protocol/errors.ts'
import type { Bus, ChannelHandler, GapListener, Readiness } from './bus.ts'
import { decodeChannelPayload, encodeChannelPayload } from './channel-payload.ts'
import { assertChannelName, assertMessageSize, busClosed, channelTaken } from './channel-rules.ts'
import type { RedisServers } from './redis-servers.ts'
import type { RedisSubscriptions } from './redis-subscriptions.ts'

export interface RedisBusOptions {
  servers: RedisServers
  subscriptions: RedisSubscriptions
  /** What stands before a channel's name in Redis. */
  channelPrefix: string
  /** Largest message in either direction. */
  messageBytes: number
  now: () => number
  onProblem: (problem: EvenkeelError) => void
}

/** A foreign program that floods us with junk must not flood the log as well. */
const reportSpacingMs = 10_000

/** Fan-out by Redis pub/sub. */
export class RedisBus implements Bus {
  private readonly options: RedisBusOptions
  private readonly channels = new Set<string>()
  private readonly gapListeners = new Set<GapListener>()
  private dropped = 0
  private reportedAt = Number.NEGATIVE_INFINITY
  private closed = false

  constructor(options: RedisBusOptions) {
    this.options = options
  }

  async subscribe(channel: string, handler: ChannelHandler): Promise<boolean> {
    assertChannelName(channel)
    if (this.closed) throw busClosed()
    const { subscriptions } = this.options
    const raw = this.raw(channel)
    if (this.channels.has(channel)) throw channelTaken(channel)
    this.channels.add(channel)
    return await subscriptions.subscribe(raw, (received) => this.receive(channel, received, handler))
  }

  async unsubscribe(channel: string): Promise<void> {
    if (!this.channels.delete(channel)) return
    await this.options.subscriptions.unsubscribe(this.raw(channel))
  }

  async publish(channel: string, payload: Buffer, text: boolean): Promise<void> {
    assertChannelName(channel)
    assertMessageSize(payload, this.options.messageBytes)
    if (this.closed) throw busClosed()
    const { servers } = this.options
    const raw = this.raw(channel)
    const encoded = encodeChannelPayload(payload, text)
    await servers.call(raw, servers.sharded ? 'SPUBLISH' : 'PUBLISH', [raw, encoded])
  }

  onGap(listener: GapListener): () => void {
    const own: GapListener = (channels) => listener(channels)
    this.gapListeners.add(own)
    return () => this.gapListeners.delete(own)
  }

  /** To be called with raw channels; those of others are passed over. */
  gap(rawChannels: readonly string[]): void {
    const { channelPrefix } = this.options
    const channels = rawChannels
      .filter((raw) => raw.startsWith(channelPrefix))
      .map((raw) => raw.slice(channelPrefix.length))
    if (channels.length > 0) for (const listener of [...this.gapListeners]) listener(channels)
  }

  status(): Readiness {
    if (this.closed) return { ready: false, reason: 'closed' }
    const servers = this.options.servers.status()
    return servers.ready ? this.options.subscriptions.status() : servers
  }

  /** The connections are closed by whoever made them. */
  async close(): Promise<void> {
    this.closed = true
    this.gapListeners.clear()
    await Promise.all([...this.channels].map((channel) => this.unsubscribe(channel)))
  }

  private raw(channel: string): string {
    return this.options.channelPrefix + channel
  }

  private receive(channel: string, received: Buffer, handler: ChannelHandler): void {
    const decoded = decodeChannelPayload(received)
    if (decoded === null) this.drop(channel, 'its first byte is 0, but it is no Evenkeel envelope')
    else if (decoded.payload.length > this.options.messageBytes)
      this.drop(channel, `it has ${decoded.payload.length} bytes, allowed are ${this.options.messageBytes}`)
    else handler(decoded.payload, decoded.text, decoded.position)
  }

  private drop(channel: string, why: string): void {
    this.dropped++
    const now = this.options.now()
    if (now - this.reportedAt < reportSpacingMs) return
    this.reportedAt = now
    const text = `a message in channel ${JSON.stringify(channel)} was dropped: ${why} (${this.dropped} dropped so far)`
    this.options.onProblem(new EvenkeelError('RECORD_INVALID', text))
  }
}
