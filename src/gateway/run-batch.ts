import type { PlacedEvent } from '../core/run/events.ts'
import { mergeDeltas } from '../core/run/merge.ts'
import type { RunBatch } from './run-types.ts'

/** Of a joined delta, in characters: several of them fill a batch. */
const mergedMost = 16 * 1024

/** Events for the readers of one place, encoded once for each wire format. */
export class SharedBatch implements RunBatch {
  readonly run: string
  readonly events: readonly PlacedEvent[]
  private encodings: Map<string, Buffer> | null = null

  constructor(run: string, events: readonly PlacedEvent[]) {
    this.run = run
    this.events = events
  }

  static of(run: string, events: readonly PlacedEvent[], merges: boolean): SharedBatch {
    return new SharedBatch(run, merges ? mergeDeltas(events, mergedMost) : events)
  }

  encoded(format: string, encode: (batch: RunBatch) => Buffer): Buffer {
    this.encodings ??= new Map()
    let encoded = this.encodings.get(format)
    if (encoded === undefined) {
      encoded = encode(this)
      this.encodings.set(format, encoded)
    }
    return encoded
  }
}
