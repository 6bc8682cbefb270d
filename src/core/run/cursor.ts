import { type Entry, lastOf } from './entry.ts'
import { isTerminal, type PlacedEvent } from './events.ts'
import { compareOffsets, formatOffset, type Offset, origin, parseOffset } from './offset.ts'

/**
 * `taken`: the reader's place is behind the entry now. `old`: it was so already. `hole`: something before the entry is missing.
 * `reset`: the reader has more than is valid, and has to begin anew.
 */
export type Step = 'taken' | 'old' | 'hole' | 'reset'

/** Where a reader of a run is: all that it costs while it is slow. */
export class Cursor {
  place: Offset
  /** It has got no delta that is still valid: a restart is nothing to it. */
  blank: boolean
  /** It has got the terminal event. */
  done = false

  constructor(after: Offset | null) {
    this.place = after ?? origin
    this.blank = after === null
  }

  /** Readers with the same key get the same events. */
  get key(): string {
    return `${this.place.epoch}-${this.place.seq}${this.blank ? ' blank' : ''}`
  }

  /** From the beginning, after `reset`. */
  rewind(): void {
    this.place = origin
    this.blank = true
  }

  copy(): Cursor {
    const copy = new Cursor(this.place)
    copy.blank = this.blank
    copy.done = this.done
    return copy
  }

  moveTo({ place, blank, done }: Cursor): void {
    this.place = place
    this.blank = blank
    this.done = done
  }

  /** Adds what the reader gets of the entry to `out`. */
  take(entry: Entry, out: PlacedEvent[]): Step {
    const last = lastOf(entry)
    if (compareOffsets(last, this.place) <= 0) return 'old'
    return entry.first === 0 ? this.takeFence(entry, out) : this.takeEvents(entry, last, out)
  }

  /** What begins an epoch: a fence, or an end that did not come from the producer. */
  private takeFence({ epoch, events }: Entry, out: PlacedEvent[]): Step {
    const event = events[0]!
    if (event.type === 'delta') return 'hole'
    if (event.type !== 'fence' || event.resume === 'continue') {
      const step = this.judgeBase(parseOffset(event.base ?? '') ?? origin)
      if (step !== 'taken') return step
    }
    const offset = `${epoch}-0`
    this.place = { epoch, seq: 0 }
    if (event.type === 'fence') {
      if (!this.blank) out.push({ offset, event })
      if (event.resume === 'restart') this.blank = true
    } else {
      const { base, ...told } = event
      out.push({ offset, event: told })
      this.done = true
    }
    return 'taken'
  }

  /** Whether the reader has exactly what the new attempt goes on from. */
  private judgeBase(base: Offset): Step {
    const { place } = this
    // At a fence it has what was valid there, unless events of that attempt are missing.
    if (place.seq === 0) return base.epoch < place.epoch || isOrigin(base) ? 'taken' : 'hole'
    const distance = compareOffsets(base, place)
    return distance === 0 ? 'taken' : distance > 0 ? 'hole' : 'reset'
  }

  private takeEvents(entry: Entry, last: Offset, out: PlacedEvent[]): Step {
    const { epoch, first, events } = entry
    const { place } = this
    if (epoch !== place.epoch || first > place.seq + 1) return 'hole'
    for (let i = place.seq + 1 - first; i < events.length; i++) {
      const event = events[i]!
      if (event.type === 'delta') this.blank = false
      else if (isTerminal(event)) this.done = true
      out.push({ offset: formatOffset({ epoch, seq: first + i }), event })
    }
    this.place = last
    return 'taken'
  }
}

function isOrigin(offset: Offset): boolean {
  return compareOffsets(offset, origin) === 0
}
