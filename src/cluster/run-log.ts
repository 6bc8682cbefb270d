import type { RawEntry } from '../core/run/entry.ts'
import type { EndEvent, FailEvent, RunStatus } from '../core/run/events.ts'
import type { AppendJudgement, FinishCondition, Outcome } from '../core/run/log-state.ts'
import type { Offset } from '../core/run/offset.ts'
import type { LossPolicy } from '../protocol/link-records.ts'
import type { RunTrace } from '../protocol/trace-context.ts'

/**
 * The logs of runs, and the queues of runs that wait for a producer. All members of the cluster share them.
 *
 * Each call is one atomic step, and may be made again when its answer was lost. All of them reject with NOT_READY while the log is away:
 * then nobody knows whether the step was made.
 */
export interface RunLogs {
  /** A step is a write to a socket: several at a time cost less. */
  readonly isRemote: boolean

  /** The run that this key names in this lane: the one given, unless the key named one before. */
  name(lane: string, key: string, named: NamedRun): Promise<NamedRun>

  /** Makes a queued run, unless it is there. */
  create(run: string, created: NewRun): Promise<void>

  /** Forgets a run that never was in a queue. */
  discard(run: string): Promise<void>

  /** Begins the next attempt, or ends the run when its loss policy says so. */
  claim(run: string, claim: ClaimRequest): Promise<ClaimAnswer>

  /** Adds an entry of the attempt that the holder has, and renews its lease. */
  append(run: string, append: AppendRequest): Promise<AppendAnswer>

  /** Ends the run from outside, under a condition. */
  finish(run: string, event: EndEvent | FailEvent, when: FinishCondition): Promise<FinishAnswer>

  /** False: the run is over, or somebody else's. */
  renew(run: string, holder: string, epoch: number): Promise<boolean>

  /** The attempt goes on by way of another gateway. null: it was fenced off, or is over. */
  attach(run: string, holder: string, epoch: number): Promise<Attached | null>

  /** The log was lost: makes the run anew, with an attempt that begins it from the start. False: it is there. */
  revive(run: string, revived: RevivedRun): Promise<boolean>

  /** Gives the run up, to be put back into its queue; `lost`: its producer was. False: it was the holder's no more. */
  release(run: string, holder: string, epoch: number, lost: boolean): Promise<boolean>

  /**
   * Reads what is behind `after`; entries that a restart made invalid are passed over. At least one entry, and about `bytesMost` at most.
   * null: there is no such run.
   */
  read(run: string, after: Offset, bytesMost: number): Promise<RunPage | null>

  /**
   * Calls `listener` with entries as they are appended, from now on. A hint: some may not come. Resolves when it is so, or cannot be at present.
   * A run has one listener at most.
   */
  follow(run: string, listener: (entry: RawEntry) => void): Promise<void>
  unfollow(run: string): Promise<void>

  /** Lets a label lead to this run, whatever it led to before, until nothing is heard of the run for `limits.runIdleMs`. */
  label(label: string, run: string): Promise<void>
  /** null: to none. */
  labelled(label: string): Promise<string | null>

  readonly queues: RunQueues
}

export interface NamedRun {
  readonly run: string
  /** Of the request, to tell a repetition from another request with the same key. */
  readonly hash: string
}

export interface NewRun {
  readonly lane: string
  readonly requestJson: string
  /** Default: its request was in no trace. */
  readonly trace?: RunTrace | null
}

export interface RevivedRun extends NewRun {
  readonly holder: string
  readonly job: string
  readonly onLoss: LossPolicy
  /** Above all that were. */
  readonly epoch: number
}

export interface ClaimRequest {
  readonly holder: string
  readonly job: string
  /** How the producers of this name take the loss of one. */
  readonly onLoss: LossPolicy
  /** By the present holder, whose producer is lost; null: by anybody, once the lease has ended. */
  readonly epoch: number | null
}

export type ClaimAnswer =
  | { readonly result: 'missing' | 'ended' | 'held' | 'failed' }
  | {
      readonly result: 'claimed'
      readonly epoch: number
      /** What the producer may go on from; null: it begins anew. */
      readonly base: Offset | null
      readonly requestJson: string
      readonly trace: RunTrace | null
      /** Since it was put into its queue for the last time. */
      readonly queuedMs: number
    }

export interface AppendRequest {
  readonly holder: string
  readonly entry: RawEntry
  readonly effects: boolean
  readonly terminal: Outcome | null
}

export interface AppendAnswer {
  readonly result: AppendJudgement | 'missing'
  /** The last event that is there of the present attempt. */
  readonly seq: number
}

export interface FinishAnswer {
  readonly result: 'finished' | 'ended' | 'kept' | 'missing'
  readonly lane: string
  readonly job: string
  /** Who had it; ''. */
  readonly holder: string
}

export interface Attached {
  readonly seq: number
  readonly job: string
  readonly onLoss: LossPolicy
  readonly lane: string
  readonly requestJson: string
  readonly trace: RunTrace | null
  /** Something is logged that counts. */
  readonly touched: boolean
  readonly effects: boolean
}

export interface RunPage {
  readonly status: RunStatus
  readonly outcome: Outcome | null
  readonly lane: string
  /** Of the newest entry. */
  readonly head: Offset
  /** Where what is valid begins. */
  readonly start: Offset
  readonly entries: readonly RawEntry[]
  /** There are more. */
  readonly more: boolean
  /** Of the holder's lease; below 0 when it has ended, 0 without one. */
  readonly leaseLeftMs: number
  /** Since it was put into its queue for the last time. */
  readonly queuedMs: number
}

/** Runs that wait, by lane: pool and name. Each is given out once; who holds it says so now and then, or it is given out again. */
export interface RunQueues {
  /** Unless too many wait, or one for too long. */
  add(lane: string, run: string, bounds: QueueBounds): Promise<{ readonly job: string } | QueueFull>
  take(lane: string, count: number): Promise<Job[]>
  /** Those that were given out and of which nothing was heard for `idleMs`. */
  takeOverdue(lane: string, idleMs: number, count: number): Promise<Job[]>
  beat(lane: string, jobs: readonly string[]): Promise<void>
  done(lane: string, job: string): Promise<void>
  /** Back to the end of the queue. */
  putBack(lane: string, job: string, run: string): Promise<void>
  /** Tells those who watch that something waits. A hint. */
  hint(lane: string): void
  watch(lane: string, listener: () => void): void
}

export interface Job {
  readonly job: string
  readonly run: string
}

export interface QueueBounds {
  readonly depthMost: number
  readonly ageMsMost: number
}

export interface QueueFull {
  readonly job: null
  readonly depth: number
  /** Of the one that waits longest. */
  readonly ageMs: number
}

/** Where runs of a name wait. Both parts are of `A–Z a–z 0–9 . _ : -`. */
export function laneOf(pool: string, name: string): string {
  return `${pool}/${name}`
}

const relayMark = '/$'

/** Of runs that gateways pass on from elsewhere, in a format of their own: no producer takes them. No name of a run begins so. */
export function relayLaneOf(pool: string, format: string): string {
  return `${pool}${relayMark}${format}`
}

/** null: not passed on. */
export function formatOf(lane: string): string | null {
  const at = lane.indexOf(relayMark)
  return at === -1 ? null : lane.slice(at + relayMark.length)
}

export type RunLimit =
  | 'runLogBytes'
  | 'runMemoryBytes'
  | 'runTtlMs'
  | 'runIdleMs'
  | 'runKeyMs'
  | 'runLeaseMs'
  | 'runLossesMost'
