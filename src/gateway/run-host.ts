import type { RunLogs } from '../cluster/run-log.ts'
import type { Outcome } from '../core/run/log-state.ts'
import type { Limits } from '../protocol/limits.ts'
import type { LiveRun } from './live-run.ts'
import type { OwnedRun } from './owned-run.ts'
import type { RelayedRun } from './relayed-run.ts'
import type { RunPace } from './run-pace.ts'
import type { Tracing } from './tracing.ts'
import type { Turn } from './turn.ts'

/** What the parts of `Runs` need of each other. */
export interface RunHost {
  /** Of the gateway: who holds a run. */
  readonly id: string
  readonly limits: Readonly<Limits>
  readonly logs: RunLogs
  readonly turn: Turn
  readonly pace: RunPace
  readonly counters: RunCounters
  readonly tracing: Tracing
  /** Runs that this gateway holds. */
  readonly owned: Map<string, OwnedRun>
  /** Runs that this gateway passes on. */
  readonly relays: Map<string, RelayedRun>
  /** Runs that are read here. */
  readonly live: Map<string, LiveRun>
  /** False while the gateway leaves. */
  readonly accepting: boolean
  now(): number
  /** A number that no run of this gateway has on any link. */
  nextNumber(): number
  /**
   * Makes the step again until the log has taken it. null: it is not wanted any more, or the gateway stops.
   */
  insist<T>(step: () => Promise<T>, wanted: () => boolean): Promise<T | null>
  /** Runs that are about to be held here: nothing has to be heard of them over Redis. */
  readonly expected: Set<string>
  jobDone(lane: string, job: string): void
  /** This gateway has a run out of its queue. */
  taken(run: string): void
  /** A run is queued: it fails if nobody takes it in time. */
  watchQueued(run: string, lane: string, requestJson: string): void
}

/** Totals since the gateway started. */
export interface RunCounters {
  /** Deltas that were logged. */
  tokens: number
  started: number
  ended: Record<Outcome, number>
}
