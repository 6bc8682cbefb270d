import { type DeltaEvent, type Json, type PlacedEvent, type RunEvent, rawKind } from './events.ts'

/**
 * Joins deltas that follow each other, belong to the same part and kind, and are texts: what a reader that is behind gets. Raw events keep an offset each:
 * their readers go on behind any of them.
 */
export function mergeDeltas(events: readonly PlacedEvent[], bytesMost: number): PlacedEvent[] {
  const merged: PlacedEvent[] = []
  let texts: string[] = []
  let size = 0
  let open: DeltaEvent | null = null
  let offset = ''
  const flush = () => {
    if (open !== null) merged.push({ offset, event: { ...open, data: texts.join('') } })
    open = null
    texts = []
    size = 0
  }
  for (const placed of events) {
    const { event } = placed
    if (event.type !== 'delta' || event.kind === rawKind || typeof event.data !== 'string') {
      flush()
      merged.push(placed)
      continue
    }
    if (open !== null && (!fits(open, event) || size + event.data.length > bytesMost)) flush()
    open ??= event
    texts.push(event.data)
    size += event.data.length
    offset = placed.offset
  }
  flush()
  return merged
}

function fits(a: DeltaEvent, b: DeltaEvent): boolean {
  return a.part === b.part && a.kind === b.kind
}

/** The deltas as the state that they lead to; null when something else than deltas is among them. */
export function snapshotOf(events: readonly PlacedEvent[]): PlacedEvent | null {
  const parts: { part: number; kind: string; data: Json }[] = []
  for (const { event } of events) {
    if (event.type !== 'delta') return null
    const last = parts.at(-1)
    const joins =
      last !== undefined &&
      last.part === event.part &&
      last.kind === event.kind &&
      typeof last.data === 'string' &&
      typeof event.data === 'string'
    if (joins) last.data = `${last.data}${event.data}`
    else parts.push({ part: event.part, kind: event.kind, data: event.data })
  }
  const offset = events.at(-1)?.offset
  return offset === undefined ? null : { offset, event: { type: 'snap', parts } }
}

/** The text of a run as far as these events go: what a reader has that keeps to the protocol. */
export class Transcript {
  text = ''
  events: RunEvent[] = []

  add(event: RunEvent): void {
    this.events.push(event)
    if (event.type === 'delta' && typeof event.data === 'string') this.text += event.data
    else if (event.type === 'snap')
      this.text = event.parts.map(({ data }) => (typeof data === 'string' ? data : '')).join('')
    else if (event.type === 'fence' && event.resume === 'restart') this.text = ''
  }
}
