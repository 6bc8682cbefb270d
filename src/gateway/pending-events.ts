import { encodeEvent } from '../core/run/entry.ts'
import type { LogEvent } from '../core/run/events.ts'

/** Events that came together. */
export interface EventBatch {
  readonly first: number
  readonly events: readonly LogEvent[]
  /** The events as JSON, without the brackets of the array. */
  readonly inner: string
}

/** Events of one attempt that are not logged yet, in order. Bounded by what a producer sends without being told that it is logged. */
export class PendingEvents {
  private batches: EventBatch[] = []

  get isEmpty(): boolean {
    return this.batches.length === 0
  }

  push(batch: EventBatch): void {
    this.batches.push(batch)
  }

  clear(): void {
    this.batches = []
  }

  /** Takes what comes next: all that has come, joined up to the bound. */
  take(bytesMost: number): EventBatch {
    const first = this.batches.shift()!
    if (!this.joins(first.inner.length, bytesMost)) return first
    const inners = [first.inner]
    const events = [...first.events]
    let bytes = first.inner.length
    while (this.joins(bytes, bytesMost)) {
      const next = this.batches.shift()!
      inners.push(next.inner)
      for (const event of next.events) events.push(event)
      bytes += next.inner.length + 1
    }
    return { first: first.first, events, inner: inners.join(',') }
  }

  /** Puts back what of a batch is behind this number. */
  putBack({ first, events }: EventBatch, seq: number): void {
    const rest = events.slice(seq + 1 - first)
    if (rest.length > 0)
      this.batches.unshift({ first: seq + 1, events: rest, inner: rest.map(encodeEvent).join(',') })
  }

  private joins(bytes: number, bytesMost: number): boolean {
    const [next] = this.batches
    return next !== undefined && bytes + next.inner.length <= bytesMost
  }
}
