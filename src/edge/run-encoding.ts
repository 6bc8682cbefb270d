import type { PlacedEvent } from '../core/run/events.ts'
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
