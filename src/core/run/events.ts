/** What happens in a run. Pure and browser-safe: the client library reads the same events. */

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** Two deltas of the same part and kind whose data are texts may be sent as one. */
export interface DeltaEvent {
  readonly type: 'delta'
  /** Which part of the answer it belongs to. Default 0. */
  readonly part: number
  /** `text` by default; what is neither `text` nor `thinking` counts as an effect on the outside. */
  readonly kind: string
  readonly data: Json
}

/** Of a delta that is an event as another server sent it, text of an event stream with its blank line. */
export const rawKind = 'raw'
/** The same where it is no UTF-8: each character stands for a byte. */
export const rawBytesKind = 'raw-bytes'

/** The producer was lost, and another attempt goes on. */
export interface FenceEvent {
  readonly type: 'fence'
  readonly epoch: number
  /** `continue`: what comes follows `base`. `restart`: forget all deltas, it begins anew. */
  readonly resume: 'continue' | 'restart'
  /** What is valid so far. `0-0`: nothing. */
  readonly base: string
}

export interface EndEvent {
  readonly type: 'end'
  readonly reason: 'complete' | 'cancelled'
  /** As the handler returned it. */
  readonly usage?: Json
  /** In logs, of an end that did not come from the producer: what was valid until then. */
  readonly base?: string
}

/** The run is over without having been completed. Not called `error`, which is an event of EventSource itself. */
export interface FailEvent {
  readonly type: 'fail'
  readonly code: FailCode
  readonly message: string
  /** The same request may do better. */
  readonly retryable: boolean
  /** As in `EndEvent`. */
  readonly base?: string
}

/**
 * `HANDLER_FAILED`: the handler threw. `PRODUCER_LOST`: with `onLoss: 'fail'`, or after too many attempts. `TOO_LARGE`: the log's bound.
 * `QUEUED_TOO_LONG`: no producer had a free place in time. `LOG_LOST`: Redis has lost it.
 */
export type FailCode = 'HANDLER_FAILED' | 'PRODUCER_LOST' | 'TOO_LARGE' | 'QUEUED_TOO_LONG' | 'LOG_LOST'

/** What a log holds. */
export type LogEvent = DeltaEvent | FenceEvent | EndEvent | FailEvent

export type RunStatus = 'queued' | 'running' | 'ended'

/** The first event that a reader gets; not in the log. */
export interface RunInfoEvent {
  readonly type: 'run'
  readonly run: string
  readonly status: RunStatus
  /** Deltas are what a server sent, kind `raw`, in this dialect (`core/llm/dialect.ts`). Absent: a run of a node. */
  readonly format?: string
}

/** All deltas up to the offset, each part and kind joined: replaces what the reader has. Not in the log. */
export interface SnapEvent {
  readonly type: 'snap'
  readonly parts: readonly { part: number; kind: string; data: Json }[]
}

/** Something behind the reader's offset is missing for good; the stream ends. Not in the log. */
export interface GapEvent {
  readonly type: 'gap'
  /** From here on it can be read. */
  readonly oldest: string
}

/** What a reader gets. */
export type RunEvent = RunInfoEvent | SnapEvent | GapEvent | LogEvent

/** An event and where the reader is when it has it: what it names to go on from here. */
export interface PlacedEvent {
  readonly offset: string
  readonly event: RunEvent
}

export function isTerminal(event: RunEvent): event is EndEvent | FailEvent {
  return event.type === 'end' || event.type === 'fail'
}
