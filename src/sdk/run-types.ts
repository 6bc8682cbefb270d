import type { Json } from './types.ts'

/** What a run's handler yields: a text, or something of another kind or part. */
export type RunChunk = string | RunDelta

export interface RunDelta {
  /** Which part of the answer it belongs to: a whole number from 0 to 65535. Default 0. */
  part?: number
  /**
   * `text` (default), `thinking`, or a name of the application's: 1 to 64 of `A–Z a–z 0–9 . _ : -`. Any other kind counts as an effect on the
   * outside (a tool call): unless `onLoss` says more, such a run is not begun again by itself.
   */
  kind?: string
  /** A text, of any length, or JSON of at most 32 KiB. */
  data: Json
}

export interface RunContext {
  readonly runId: string
  /** Counts the attempts to make this run, from 1. */
  readonly epoch: number
  /** Aborts when the run is cancelled, or somebody else makes it now: nothing that is yielded counts any more. */
  readonly signal: AbortSignal
  /** With `onLoss: 'continue'`: what earlier attempts have made, and readers have; go on behind it. Otherwise empty. */
  readonly emitted: { readonly text: string; readonly events: readonly Required<RunDelta>[] }
  /** Where the run is traced (W3C Trace Context): the gateway's own span, or what the client has sent. Absent: nowhere. */
  readonly traceparent?: string
  readonly tracestate?: string
}

/**
 * Makes one run. Each chunk is logged before it counts; the generator waits while too much is not logged yet. What it returns is given to
 * readers as `usage`. What it throws ends the run with `fail` (HANDLER_FAILED): its message is seen by readers.
 */
export type RunHandler<Request = Json> = (
  request: Request,
  context: RunContext,
) => AsyncGenerator<RunChunk, Json | undefined> | AsyncIterable<RunChunk>

export interface RunOptions {
  /**
   * When this process is lost in the middle: `restart` makes the run anew, and readers forget what they have; `continue` calls the
   * handler elsewhere with `emitted`; `fail` ends the run. Default: `restart`, but `fail` once something else than text or thinking was yielded.
   */
  onLoss?: 'continue' | 'restart' | 'fail'
  /** Runs of this name at once in this process. Default 32. */
  concurrency?: number
}
