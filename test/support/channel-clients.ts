import { onTestFinished } from 'vitest'
import type { ClusterMember } from '../../src/cluster/member.ts'
import type { HistoryRule } from '../../src/core/channel/history-rules.ts'
import type { ChannelVerdict, ClientConnection, SharedMessages } from '../../src/gateway/client-connection.ts'
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts'
import type { Session } from '../../src/gateway/session.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { formatPosition, type Position } from '../../src/protocol/position.ts'
import { Recorder } from './recorder.ts'

export const historyRule: HistoryRule = { match: 'room*', size: 1_000, ttlMs: 60_000 }

/** A gateway without listeners, links and nodes: sessions join what they are told to. It ends with the test. */
export function startBareGateway(cluster: ClusterMember, options: Partial<GatewayOptions> = {}): Gateway {
  const gateway = new Gateway({
    id: 'gw',
    limits: defaultLimits,
    policy: 'random',
    rebalance: { enabled: false, intervalMs: 0, tolerance: 0, maxMovesPerRound: null },
    cluster,
    history: [historyRule],
    ...options,
  })
  onTestFinished(() => gateway.stop())
  return gateway
}

export async function publish(gateway: Gateway, channel: string, text: string): Promise<void> {
  await gateway.publishToChannel(channel, Buffer.from(text), true)
}

/** What a client saw of its channels, in order: `room 7 text`, `room joined 7`. Epochs are in `positions`. */
export class ChannelClient implements ClientConnection {
  readonly transport = 'websocket'
  readonly seen = new Recorder<string>()
  /** The last position that the client knows, by channel. */
  readonly positions = new Map<string, Position | null>()
  readonly session: Session
  /** A client that does not read has any number of bytes pending. */
  pendingBytes = 0
  closed = false

  constructor(gateway: Gateway) {
    const request = { path: '/', query: '', headers: {}, subprotocol: '' }
    this.session = gateway.openSession(
      'default',
      { transport: 'websocket', address: '127.0.0.1', ...request },
      this,
    )
  }

  /** All of the channel, without its name. */
  of(channel: string): string[] {
    return this.seen.items
      .filter((item) => item.startsWith(`${channel} `))
      .map((item) => item.slice(channel.length + 1))
  }

  /** Verdicts alone. */
  verdicts(channel: string): string[] {
    return this.of(channel).filter((item) => /^[a-z]/.test(item))
  }

  /** Offsets of the messages alone. */
  offsets(channel: string): number[] {
    return this.of(channel)
      .filter((item) => /^\d/.test(item))
      .map((item) => Number.parseInt(item, 10))
  }

  join(channel: string, since?: Position | null): this {
    this.session.join(channel, since)
    return this
  }

  async until(channel: string, isDone: (items: string[]) => boolean): Promise<void> {
    await this.seen.until(() => isDone(this.of(channel)))
  }

  deliverShared({ channel, messages }: SharedMessages): void {
    for (const { payload, position } of messages) {
      if (position !== null) this.positions.set(channel, position)
      this.seen.add(`${channel} ${position?.offset ?? '-'} ${payload}`)
    }
  }

  verdict(channel: string, verdict: ChannelVerdict, position: Position | null): void {
    this.positions.set(channel, position)
    this.seen.add(`${channel} ${verdict} ${position?.offset ?? '-'}`)
  }

  deliver(): boolean {
    return true
  }

  keepsUp(): boolean {
    return this.pendingBytes === 0
  }

  pause(): void {}
  resume(): void {}

  close(): void {
    this.closed = true
  }
}

export function epochOf(client: ChannelClient, channel: string): string {
  return formatPosition(client.positions.get(channel)!).split('-')[0]!
}

/** `first` to `last`. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index)
}
