import type { PlacedEvent, RunStatus } from '../core/run/events.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { RunTrace } from '../protocol/trace-context.ts'
import type { RelayedRun } from './relayed-run.ts'

/** Runs as the edge sees them: `gateway.runs`. */
export interface RunService {
  /**
   * Makes a run, or finds the one that the idempotency key named before. The caller then opens a reader.
   * Throws TOO_MANY_REQUESTS (with `retryAfterMs`, see `RunsRefused`), TOO_LARGE (request), CONFLICT (the key was used with another request),
   * BAD_REQUEST (pool, name or key), NOT_READY (Redis is away), DRAINING.
   */
  start(request: StartRun): Promise<StartedRun>
  /**
   * Reads a run from an offset on, and then live, up to its terminal event. `after` is an offset that a reader got; null or '' reads from the beginning.
   * Throws NOT_FOUND (unknown, or over for longer than 10 min), BAD_REQUEST (no offset), NOT_READY (Redis is away), DRAINING.
   */
  openReader(run: string, after: string | null, sink: RunSink, options?: ReaderOptions): Promise<OpenedReader>
  /** Ends the run with `end` (cancelled), unless it is over. May be said twice. Throws NOT_FOUND, NOT_READY. */
  cancel(run: string): Promise<RunState>
  /** Throws NOT_FOUND, NOT_READY. */
  status(run: string): Promise<RunState>
  /** Logs a stream that is made elsewhere and passed on here. Throws BAD_REQUEST (pool), DRAINING. */
  relay(request: RelayRun): RelayedRun
  /** Lets a label lead to the run at all gateways. Throws NOT_READY. */
  label(label: string, run: string): Promise<void>
  /** null: it leads to no run. Throws NOT_READY. */
  labelled(label: string): Promise<string | null>
}

export interface RelayRun {
  pool: string
  /** Says how readers are told of its end; of `A–Z a–z 0–9 . _ : -`. */
  format: string
  /** The user whose run it is; null, absent: nobody's. */
  owner?: string | null
  listener: RelayListener
}

/**
 * `cancelled`: somebody has ended the run, or it has ended otherwise. `full`: its log would be too long, so that it has failed. `lost`: it cannot be logged
 * any more, and whoever reads it will be told so.
 */
export type RelayStop = 'cancelled' | 'full' | 'lost'

export interface RelayListener {
  /** Once; nothing that comes behind it is logged. */
  stopped(reason: RelayStop): void
  /** Some of what was not logged is. */
  logged(): void
}

export interface StartRun {
  pool: string
  /** Of `node.run(name, …)`. 1 to 64 of `A–Z a–z 0–9 . _ : -`. */
  name: string
  /** The handler's request, as JSON text; at most `limits.runRequestBytes`. Must parse: the caller has checked. */
  requestJson: string
  /** 1 to 255 printable ASCII characters; null: every call makes a new run. */
  idempotencyKey: string | null
  /** The user whose run it is; null, absent: nobody's. */
  owner?: string | null
  /** `durable`: goes on without readers. `attached`: cancelled when its last reader at this gateway leaves before the end. */
  mode: RunMode
  /** Default: it continues no trace. */
  trace?: RunTrace | null
}

export type RunMode = 'durable' | 'attached'

export interface StartedRun {
  readonly run: string
  /** False: the idempotency key named it before. */
  readonly created: boolean
}

export interface RunState {
  readonly run: string
  readonly status: RunStatus
  /** Of its newest event. */
  readonly offset: string
  /** How it ended; null before. */
  readonly outcome: 'complete' | 'cancelled' | 'failed' | null
}

/**
 * Events for one or more readers at the same place of a run. All of them get the same object, so that an encoding is made
 * once: ask `encoded` with a key for each wire format.
 */
export interface RunBatch {
  readonly run: string
  readonly events: readonly PlacedEvent[]
  encoded(format: string, encode: (batch: RunBatch) => Buffer): Buffer
}

/** Where a reader's events go. No method may throw. */
export interface RunSink {
  /**
   * Must take the batch whole. Returns false when more than `limits.runReaderBytes` (64 KiB) is unsent: then nothing comes until `reader.drained()`,
   * and the reader costs no more memory than its cursor. A batch has at most about 64 KiB.
   */
  write(batch: RunBatch): boolean
  /** Nothing has come for `limits.runHeartbeatMs` (15 s), and the run is alive: queued, or its producer's lease holds. */
  heartbeat(): void
  /**
   * The last call. `ended`: the terminal event was written (or a `gap`). `away`: the log cannot be read, or the gateway stops; the client may come back
   * with its offset, to any gateway.
   */
  close(reason: 'ended' | 'away'): void
}

export interface ReaderOptions {
  /** Adjacent deltas of this much time are joined; the first one is sent at once. Default `limits.runCoalesceMs` (0: none are). */
  coalesceMs?: number
  /** A reader from the beginning gets what is there as one `snap`, if that has at most 64 KiB. Default false. */
  snapshot?: boolean
}

export interface RunReader {
  /** The sink can take more. */
  drained(): void
  /** The client has gone. Never cancels a durable run. */
  close(): void
}

/**
 * `continuous`: all that comes follows the offset. `reset`: the offset is of an attempt that was given up; the first event after `run` is a `fence` (restart).
 * `gap`: what followed the offset is lost; nothing was written to the sink (HTTP 410). `over`: the offset is that of the terminal event, nothing
 * follows (HTTP 204).
 */
export type OpenedReader =
  | { readonly verdict: 'continuous' | 'reset'; readonly reader: RunReader; readonly status: RunStatus }
  | { readonly verdict: 'gap'; readonly oldest: string }
  | { readonly verdict: 'over' }

/** Too many runs wait already. */
export class RunsRefused extends EvenkeelError {
  /** For `Retry-After`. */
  readonly retryAfterMs: number

  constructor(
    message: string,
    retryAfterMs: number,
    code: 'TOO_MANY_REQUESTS' | 'OVERLOADED' = 'TOO_MANY_REQUESTS',
  ) {
    super(code, message)
    this.retryAfterMs = retryAfterMs
  }
}
