import { type Dialect, encodeStreamFailure, isDialect } from '../core/llm/dialect.ts'
import { type PlacedEvent, rawBytesKind } from '../core/run/events.ts'
import { withId } from '../core/sse/raw-events.ts'
import type { RunBatch } from '../gateway/run-types.ts'
import { encodeEvent } from '../protocol/sse.ts'

/** As Server-Sent Events; made once for all readers of the batch. */
export function encodeRunSse(batch: RunBatch): Buffer {
  return batch.encoded('sse', ({ events }) => Buffer.from(events.map(sseOf).join('')))
}

/** As a JSON list; made once for all readers of the batch. */
export function encodeRunList(batch: RunBatch): Buffer {
  return batch.encoded('list', ({ events }) =>
    Buffer.from(JSON.stringify(events.map(({ offset, event }) => ({ offset, ...event })))),
  )
}

/** JSON has no line endings, so nothing in it can become a field. */
function sseOf({ offset, event: { type, ...data } }: PlacedEvent): string {
  return encodeEvent(JSON.stringify({ ...data, offset }), { event: type, id: offset })
}

/** What the run's events are in; null: native ones. Only the first batch of a reader says it. */
export function formatOf({ events }: RunBatch): Dialect | null {
  const first = events[0]?.event
  return first?.type === 'run' && isDialect(first.format) ? first.format : null
}

/** As the server sent it, and an end of the dialect for what did not end well. `ids`: with an id in each event. */
export function encodeRaw(batch: RunBatch, dialect: Dialect, ids: boolean): Buffer {
  return batch.encoded(`${dialect} ${ids}`, ({ events }) => {
    const isBytes = ({ event }: PlacedEvent) => event.type === 'delta' && event.kind === rawBytesKind
    const encode = (one: PlacedEvent) => rawOf(one, dialect, ids)
    if (!events.some(isBytes)) return Buffer.from(events.map(encode).join(''))
    return Buffer.concat(events.map((one) => Buffer.from(encode(one), isBytes(one) ? 'latin1' : 'utf8')))
  })
}

function rawOf({ offset, event }: PlacedEvent, dialect: Dialect, ids: boolean): string {
  switch (event.type) {
    case 'delta':
      return ids ? withId(String(event.data), offset) : String(event.data)
    case 'end':
      return event.reason === 'cancelled' ? encodeStreamFailure(dialect, cancelled) : ''
    case 'fail':
      return encodeStreamFailure(dialect, event)
    case 'gap':
      return encodeStreamFailure(dialect, { code: 'GAP', message: 'what follows of this stream is lost' })
    default:
      return ''
  }
}

export const cancelled = { code: 'CANCELLED', message: 'the run was cancelled' }
