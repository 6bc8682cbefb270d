import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { channelNameRule, isChannelName, RecordFlag, RecordType } from '../protocol/link-records.ts'

export type ChannelHandler = (data: string | Uint8Array) => void

/** Publishing and subscribing of one node: over one of its links, as every gateway gets everything. */
export class NodeChannels {
  private readonly subscriptions = new Map<string, Set<ChannelHandler>>()
  /** In the order in which they came up; the first one is used. */
  private readonly links = new Map<Link, { messageBytes: number }>()
  private readonly onError: (message: string) => void

  constructor(onError: (message: string) => void) {
    this.onError = onError
  }

  publish(channel: string, data: string | Uint8Array): boolean {
    checkedChannel(channel)
    const payload = typeof data === 'string' ? Buffer.from(data) : data
    for (const [link, { messageBytes }] of this.links) {
      if (payload.length > messageBytes) {
        throw new EvenkeelError('TOO_LARGE', `a message has at most ${messageBytes} bytes`)
      }
      const flags = typeof data === 'string' ? RecordFlag.text : 0
      link.putChannel(RecordType.publish, flags, channel, payload)
      return true
    }
    return false
  }

  subscribe(channel: string, handler: ChannelHandler): () => void {
    checkedChannel(channel)
    let handlers = this.subscriptions.get(channel)
    if (handlers === undefined) {
      handlers = new Set()
      this.subscriptions.set(channel, handlers)
      this.first?.putName(RecordType.subscribe, 0, 0, channel)
    }
    handlers.add(handler)
    return () => {
      if (!handlers.delete(handler) || handlers.size > 0) return
      this.subscriptions.delete(channel)
      this.first?.putName(RecordType.unsubscribe, 0, 0, channel)
    }
  }

  linkUp(link: Link, messageBytes: number): void {
    this.links.set(link, { messageBytes })
    if (this.first === link) this.subscribeAll(link)
  }

  linkDown(link: Link): void {
    const wasFirst = this.first === link
    this.links.delete(link)
    if (wasFirst && this.first !== undefined) this.subscribeAll(this.first)
  }

  /** PUBLISHED arrived. */
  published(flags: number, body: Buffer): void {
    const nameEnd = 2 + body.readUInt16LE(0)
    const handlers = this.subscriptions.get(body.toString('utf8', 2, nameEnd))
    if (handlers === undefined) return
    const isText = (flags & RecordFlag.text) !== 0
    const data = isText ? body.toString('utf8', nameEnd) : Buffer.from(body.subarray(nameEnd))
    for (const handler of handlers) {
      try {
        handler(data)
      } catch (error) {
        this.onError(`a channel handler failed: ${String((error as Error)?.stack ?? error)}`)
      }
    }
  }

  private get first(): Link | undefined {
    return this.links.keys().next().value
  }

  private subscribeAll(link: Link): void {
    for (const channel of this.subscriptions.keys()) link.putName(RecordType.subscribe, 0, 0, channel)
  }
}

/** Throws BAD_REQUEST. */
export function checkedChannel(name: string): string {
  if (isChannelName(name)) return name
  throw new EvenkeelError('BAD_REQUEST', channelNameRule)
}
