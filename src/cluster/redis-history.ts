import { randomUUID } from 'node:crypto'
import type { HistoryBounds } from '../core/channel/history-rules.ts'
import { type Position, parsePosition } from '../protocol/position.ts'
import { assertText, decodeKind } from './channel-payload.ts'
import { assertChannelName, assertMessageSize } from './channel-rules.ts'
import {
  assertHistoryBounds,
  type History,
  type HistoryMessage,
  type HistoryRead,
  historyRead,
  historyReadBytes,
} from './history.ts'
import { loadScript } from './redis-script.ts'
import type { RedisServers } from './redis-servers.ts'

export interface RedisHistoryOptions {
  servers: RedisServers
  /** What stands before a channel's name in Redis. */
  channelPrefix: string
  messageBytes: number
}

interface Page {
  readonly head: Position
  /** There may be older ones than the last of `messages`. */
  readonly more: boolean
  /** The newest first. */
  readonly messages: readonly HistoryMessage[]
}

const scripts = { publish: loadScript('history-publish'), read: loadScript('history-read') }
/** A part of a history that arrives within the time of one command, whatever the network is. */
const pageBytes = 256 * 1024

/** Histories in Redis Streams, PROTOCOL.md §5.1. */
export class RedisHistory implements History {
  private readonly options: RedisHistoryOptions

  constructor(options: RedisHistoryOptions) {
    this.options = options
  }

  async publish(channel: string, payload: Buffer, text: boolean, bounds: HistoryBounds): Promise<Position> {
    assertChannelName(channel)
    assertMessageSize(payload, this.options.messageBytes)
    assertText(payload, text)
    assertHistoryBounds(bounds)
    const { servers } = this.options
    const raw = this.raw(channel)
    const epochStart = newEpochStart()
    const publish = servers.sharded ? 'SPUBLISH' : 'PUBLISH'
    const args = [bounds.size, bounds.ttlMs, epochStart, text ? 't' : 'b', payload, publish]
    // Not by its hash: a server that had forgotten the script would get this message again after those that follow it.
    const reply = await servers.call(raw, 'EVAL', [scripts.publish.lua, 1, raw, ...args])
    const [epoch, offset] = reply as [string, string]
    return { epoch, offset: Number(offset) }
  }

  async read(channel: string, after: Position | null): Promise<HistoryRead> {
    assertChannelName(channel)
    const raw = this.raw(channel)
    const newest = await this.page(raw, after, 0)
    if (newest === null) return historyRead(after, null, [])
    const { head } = newest
    const found = [...newest.messages]
    let bytes = sizeOf(found)
    for (let { more } = newest; more && bytes < historyReadBytes; ) {
      const page = await this.page(raw, after, found.at(-1)!.position.offset)
      if (page === null || page.head.epoch !== head.epoch) break
      found.push(...page.messages)
      bytes += sizeOf(page.messages)
      more = page.more && page.messages.length > 0
    }
    return historyRead(after, head, withoutHoles(head, found).reverse())
  }

  private async page(raw: string, after: Position | null, before: number): Promise<Page | null> {
    const args = [after?.epoch ?? '', after?.offset ?? 0, before, pageBytes]
    const reply = (await this.options.servers.run(scripts.read, [raw], args, 'bytes')) as Buffer[]
    const [epoch, offset, more, ...flat] = reply
    const head = parsePosition(`${epoch}-${offset}`)
    if (head === null) return null
    const messages: HistoryMessage[] = []
    for (let i = 0; i + 2 < flat.length; i += 3) {
      const position = { epoch: head.epoch, offset: Number(flat[i]) }
      const decoded = decodeKind(flat[i + 1]![0], flat[i + 2]!, position)
      if (decoded !== null) messages.push({ ...decoded, position })
    }
    return { head, more: Number(more) === 1, messages }
  }

  private raw(channel: string): string {
    return this.options.channelPrefix + channel
  }
}

/** 48 random bits, in hex. Those of UUIDs are drawn in advance: each message takes some, for the case that it is the first. */
function newEpochStart(): string {
  return randomUUID().slice(0, 13).replace('-', '')
}

/** Of messages from the newest on, those down to the first one that is missing. */
function withoutHoles(head: Position, messages: readonly HistoryMessage[]): HistoryMessage[] {
  const hole = messages.findIndex(({ position }, index) => position.offset !== head.offset - index)
  return hole === -1 ? [...messages] : messages.slice(0, hole)
}

function sizeOf(messages: readonly HistoryMessage[]): number {
  return messages.reduce((sum, { payload }) => sum + payload.length, 0)
}
