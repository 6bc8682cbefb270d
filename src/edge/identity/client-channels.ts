import {
  type ChannelAction,
  type ChannelPermission,
  mayUseChannel,
} from '../../core/identity/channel-permissions.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { ResumableSession } from '../../gateway/resumable-session.ts'
import { ClientFrame, invalidFrame } from '../../protocol/client-frames.ts'
import { channelNameRule, isChannelName } from '../../protocol/names.ts'
import type { Identity } from './identity.ts'

export interface ClientChannelsOptions {
  readonly gateway: Pick<Gateway, 'channels' | 'limits'>
  /** null: clients use no channels by themselves. */
  readonly permissions: readonly ChannelPermission[] | null
}

/** `denied`: no rule allows it. `failed`: not now. */
export type Refused = 'denied' | 'failed'

/** Messages of one client that are on their way to the bus. */
const publishingMost = 64

/** The channels that a client joins, leaves and publishes to by itself (PROTOCOL.md §2.4). */
export class ClientChannels {
  private readonly options: ClientChannelsOptions
  private readonly identity: () => Identity | null
  private readonly tell: (channel: string, verdict: Refused | 'joined') => void
  private publishing = 0

  constructor(
    options: ClientChannelsOptions,
    identity: () => Identity | null,
    tell: (channel: string, verdict: Refused | 'joined') => void,
  ) {
    this.options = options
    this.identity = identity
    this.tell = tell
  }

  /** Takes a frame; false: it is not about channels. Throws BAD_REQUEST. */
  received(type: number | undefined, data: Buffer, text: boolean, session: ResumableSession): boolean {
    if (type === ClientFrame.publish) this.publish(data, text)
    else if (type === ClientFrame.join && text) this.join(data.toString('utf8', 1), session)
    else if (type === ClientFrame.leave && text) this.leave(data.toString('utf8', 1), session)
    else return false
    return true
  }

  private join(name: string, session: ResumableSession): void {
    if (!this.may(name, 'join')) return
    if (!session.clientJoins(name)) this.tell(name, 'failed')
    // One with a history says itself from where on.
    else if (this.options.gateway.channels.get(name)?.history === null) this.tell(name, 'joined')
  }

  /** What a client may not join is for its node to leave. */
  private leave(name: string, session: ResumableSession): void {
    if (this.may(name, 'join')) session.clientLeaves(name)
  }

  private publish(data: Buffer, text: boolean): void {
    const { channels, limits } = this.options.gateway
    const nameEnd = data.indexOf(0x0a)
    if (nameEnd === -1) throw invalidFrame('b must be followed by channel and payload')
    const name = data.toString('utf8', 1, nameEnd)
    if (data.length - nameEnd - 1 > limits.messageBytes)
      throw invalidFrame(`a message has at most ${limits.messageBytes} bytes`)
    if (!this.may(name, 'publish')) return
    if (this.publishing >= publishingMost) {
      this.tell(name, 'failed')
      return
    }
    this.publishing++
    channels
      .publish(name, Buffer.from(data.subarray(nameEnd + 1)), text)
      .catch(() => this.tell(name, 'failed'))
      .finally(() => this.publishing--)
  }

  private may(name: string, action: ChannelAction): boolean {
    if (!isChannelName(name)) throw invalidFrame(channelNameRule)
    const { permissions } = this.options
    const claims = this.identity()?.claims ?? {}
    if (permissions !== null && mayUseChannel(permissions, claims, name, action)) return true
    this.tell(name, 'denied')
    return false
  }
}
