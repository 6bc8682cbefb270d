import { randomBytes } from 'node:crypto'
import type { HistoryBounds } from '../core/channel/history-rules.ts'
import type { Position } from '../protocol/position.ts'
import { assertText } from './channel-payload.ts'
import { assertChannelName, assertMessageSize, busClosed } from './channel-rules.ts'
import {
  assertHistoryBounds,
  type History,
  type HistoryMessage,
  type HistoryRead,
  historyRead,
  historyReadBytes,
} from './history.ts'

interface Stored {
  readonly epoch: string
  /** The oldest first, without a hole; never empty. */
  readonly messages: HistoryMessage[]
  endsAt: number
  timer: NodeJS.Timeout | null
}

/** Timers of more milliseconds than this fire at once. */
const timerMsMax = 2_147_483_647

/** What Redis keeps for the others, with the steps of the scripts in `lua/`. */
export class HistoryRecords {
  private readonly now: () => number
  private readonly byChannel = new Map<string, Stored>()

  constructor(now: () => number) {
    this.now = now
  }

  append(channel: string, payload: Buffer, text: boolean, { size, ttlMs }: HistoryBounds): HistoryMessage {
    const stored = this.get(channel) ?? this.begin(channel)
    const { epoch, messages } = stored
    const message = {
      position: { epoch, offset: (messages.at(-1)?.position.offset ?? 0) + 1 },
      payload,
      text,
    }
    messages.push(message)
    messages.splice(0, messages.length - size)
    stored.endsAt = this.now() + ttlMs
    // Only so that what nobody asks for is not kept: `get` is what ends a history.
    if (stored.timer !== null) clearTimeout(stored.timer)
    stored.timer = setTimeout(() => this.get(channel), Math.min(ttlMs + 1, timerMsMax)).unref()
    return message
  }

  messages(channel: string): readonly HistoryMessage[] {
    return this.get(channel)?.messages ?? []
  }

  private begin(channel: string): Stored {
    const stored: Stored = {
      epoch: randomBytes(10).toString('hex'),
      messages: [],
      endsAt: Number.POSITIVE_INFINITY,
      timer: null,
    }
    this.byChannel.set(channel, stored)
    return stored
  }

  private get(channel: string): Stored | undefined {
    const known = this.byChannel.get(channel)
    if (known === undefined || this.now() < known.endsAt) return known
    if (known.timer !== null) clearTimeout(known.timer)
    this.byChannel.delete(channel)
    return undefined
  }
}

export interface MemoryHistoryOptions {
  records: HistoryRecords
  messageBytes: number
  isClosed(): boolean
  /** Gives a message to all subscribers in the cluster. */
  deliver(channel: string, message: HistoryMessage): void
}

export class MemoryHistory implements History {
  private readonly options: MemoryHistoryOptions

  constructor(options: MemoryHistoryOptions) {
    this.options = options
  }

  async publish(channel: string, payload: Buffer, text: boolean, bounds: HistoryBounds): Promise<Position> {
    const { records, messageBytes, deliver } = this.options
    assertChannelName(channel)
    assertMessageSize(payload, messageBytes)
    assertText(payload, text)
    assertHistoryBounds(bounds)
    this.assertOpen()
    const message = records.append(channel, Buffer.from(payload), text, bounds)
    // Never inside the caller's own stack; microtasks keep the order.
    await null
    deliver(channel, message)
    return message.position
  }

  async read(channel: string, after: Position | null): Promise<HistoryRead> {
    assertChannelName(channel)
    this.assertOpen()
    const stored = this.options.records.messages(channel)
    const head = stored.at(-1)?.position ?? null
    if (head === null || after === null) return historyRead(after, head, [])
    const first = after.epoch === head.epoch ? after.offset : 0
    const behind = stored.filter(({ position }) => position.offset > first)
    let bytes = 0
    const cut = behind.findLastIndex(({ payload }, index) => {
      const isCutOff = index < behind.length - 1 && bytes >= historyReadBytes
      bytes += payload.length
      return isCutOff
    })
    return historyRead(after, head, behind.slice(cut + 1))
  }

  private assertOpen(): void {
    if (this.options.isClosed()) throw busClosed()
  }
}
