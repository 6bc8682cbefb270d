import { type Entry, type EntrySource, encodeEvent, type RawEntry } from '../core/run/entry.ts'
import { type EndEvent, type FailEvent, type LogEvent, rawBytesKind, rawKind } from '../core/run/events.ts'
import { endOfEvent } from '../core/sse/raw-events.ts'

/** What a terminal event counts for. */
const endingBytes = 128

/**
 * Events of a stream as they came. A log in memory keeps them so: few runs are ever read again, and text for each token would cost more than
 * all else that is done for it.
 */
export class RelayedEntry implements RawEntry, EntrySource {
  readonly epoch: number
  readonly first: number
  readonly count: number
  private readonly events: Buffer
  private readonly isText: boolean
  private readonly ending: EndEvent | FailEvent | null

  /** `events`: as many as `count` says, the ending included; they must not be written to any more. `isText`: they are UTF-8. */
  constructor(
    epoch: number,
    first: number,
    count: number,
    events: Buffer,
    isText: boolean,
    ending: EndEvent | FailEvent | null,
  ) {
    this.epoch = epoch
    this.first = first
    this.count = count
    this.events = events
    this.isText = isText
    this.ending = ending
  }

  get source(): this {
    return this
  }

  get bytes(): number {
    return this.events.length + (this.ending === null ? 0 : endingBytes)
  }

  get json(): string {
    const { ending, kind } = this
    const parts = this.texts().map((data) => `{"kind":"${kind}","data":${JSON.stringify(data)}}`)
    if (ending !== null) parts.push(encodeEvent(ending))
    return `[${parts.join(',')}]`
  }

  opened(): Entry {
    const { epoch, first, ending, kind } = this
    const events: LogEvent[] = this.texts().map((data) => ({ type: 'delta', part: 0, kind, data }))
    if (ending !== null) events.push(ending)
    return { epoch, first, events }
  }

  private get kind(): string {
    return this.isText ? rawKind : rawBytesKind
  }

  private texts(): string[] {
    const { events } = this
    const encoding = this.isText ? 'utf8' : 'latin1'
    const texts: string[] = []
    for (let from = 0; from < events.length; ) {
      const at = endOfEvent(events, from, events.length)
      // A stream may end without a blank line.
      const end = at === -1 ? events.length : at
      texts.push(events.toString(encoding, from, end))
      from = end
    }
    return texts
  }
}
