import type { LossPolicy } from '../../protocol/link-records.ts'
import { encodeFence, failEvent, type RawEntry } from './entry.ts'
import type { EndEvent, FailEvent, RunStatus } from './events.ts'
import { compareOffsets, formatOffset, type Offset, origin } from './offset.ts'

export type Outcome = 'complete' | 'cancelled' | 'failed'

/**
 * What a log knows of its run beside the entries. The scripts in `cluster/lua/run-*.lua` keep the same fields in a hash and follow the same
 * rules; one contract suite runs on both.
 */
export interface RunRecord {
  status: RunStatus
  outcome: Outcome | null
  /** Attempts so far. */
  epoch: number
  /** The last event of this attempt. */
  seq: number
  /** The fence of the last restart: what is before it is not valid any more. */
  start: Offset
  /** The last valid event that is no fence. */
  last: Offset
  /** Of all entries. */
  bytes: number
  /** An event had an effect on the outside. */
  effects: boolean
  onLoss: LossPolicy
  /** The gateway that has the run's producer; '' while it is queued. */
  holder: string
  leaseUntil: number
  /** Producers that were lost. */
  losses: number
}

export function newRecord(): RunRecord {
  return {
    status: 'queued',
    outcome: null,
    epoch: 0,
    seq: 0,
    start: origin,
    last: origin,
    bytes: 0,
    effects: false,
    onLoss: 'auto',
    holder: '',
    leaseUntil: 0,
    losses: 0,
  }
}

export type AppendJudgement =
  | 'appended'
  /** All of it is there already. */
  | 'duplicate'
  /** A part of it is there already. */
  | 'overlap'
  /** Something before it is not there. */
  | 'hole'
  /** Another attempt has begun. */
  | 'fenced'
  | 'ended'
  /** It would be longer than it may be. */
  | 'full'

export interface Append {
  readonly epoch: number
  readonly first: number
  readonly count: number
  readonly bytes: number
  /** How the run ends with it. */
  readonly terminal: Outcome | null
}

/** The append rule. */
export function judgeAppend(record: Readonly<RunRecord>, append: Append, bytesMost: number): AppendJudgement {
  if (append.epoch > record.epoch) return 'hole'
  if (append.epoch < record.epoch) return record.status === 'ended' ? 'ended' : 'fenced'
  const last = append.first + append.count - 1
  if (record.status === 'ended') {
    // The last event may be the producer's own end, said again, or somebody else's in its place.
    const isOwn = append.terminal !== null && append.terminal === record.outcome
    return last < record.seq || (last === record.seq && isOwn) ? 'duplicate' : 'ended'
  }
  if (last <= record.seq) return 'duplicate'
  if (record.status === 'queued') return 'fenced'
  if (append.first > record.seq + 1) return 'hole'
  if (append.first <= record.seq) return 'overlap'
  if (append.terminal === null && record.bytes + append.bytes > bytesMost) return 'full'
  return 'appended'
}

export interface Claim {
  readonly holder: string
  readonly onLoss: LossPolicy
  /** By the present holder, whose producer is lost; null: the lease must have ended. */
  readonly epoch: number | null
  readonly now: number
  readonly lossesMost: number
}

export type ClaimJudgement =
  | { readonly result: 'ended' | 'held' }
  | { readonly result: 'failed'; readonly event: FailEvent }
  | { readonly result: 'claimed'; readonly resume: 'continue' | 'restart'; readonly base: Offset }

/** Whether another attempt may begin, and how it stands to the one before. */
export function judgeClaim(record: Readonly<RunRecord>, claim: Claim): ClaimJudgement {
  const { status, holder, epoch, leaseUntil, last, effects, onLoss, losses } = record
  if (status === 'ended') return { result: 'ended' }
  if (claim.epoch !== null) {
    if (status !== 'running' || holder !== claim.holder || epoch !== claim.epoch) return { result: 'held' }
  } else if (status === 'running' && leaseUntil > claim.now) return { result: 'held' }
  if (losses + (status === 'running' ? 1 : 0) > claim.lossesMost)
    return { result: 'failed', event: producerLost() }
  // What nobody has seen can be made again.
  if (compareOffsets(last, origin) === 0) return { result: 'claimed', resume: 'restart', base: origin }
  if (onLoss === 'fail' || (onLoss === 'auto' && effects)) return { result: 'failed', event: producerLost() }
  if (onLoss === 'continue') return { result: 'claimed', resume: 'continue', base: last }
  return { result: 'claimed', resume: 'restart', base: origin }
}

export function producerLost(): FailEvent {
  return failEvent('PRODUCER_LOST', 'the producer of this run was lost', true)
}

/** Begins the attempt that `judgeClaim` allowed. Returns its fence. */
export function applyClaim(
  record: RunRecord,
  { holder, onLoss }: Claim,
  { resume, base }: { resume: 'continue' | 'restart'; base: Offset },
  leaseUntil: number,
): RawEntry {
  if (record.status === 'running') record.losses++
  record.epoch++
  record.seq = 0
  if (resume === 'restart') {
    record.start = { epoch: record.epoch, seq: 0 }
    record.last = origin
    record.effects = false
  }
  Object.assign(record, { status: 'running', holder, onLoss, leaseUntil })
  return { epoch: record.epoch, first: 0, count: 1, json: encodeFence(record.epoch, resume, base) }
}

export function applyAppend(
  record: RunRecord,
  { first, count, bytes, terminal }: Append,
  effects: boolean,
): void {
  record.seq = first + count - 1
  record.last = { epoch: record.epoch, seq: record.seq }
  record.bytes += bytes
  record.effects ||= effects
  if (terminal !== null) close(record, terminal)
}

/**
 * `live`: whatever it does. `queued`: no producer has it. `lapsed`: its producer's lease has ended. A number: that attempt goes on.
 */
export type FinishCondition = 'live' | 'queued' | 'lapsed' | number

export function judgeFinish(
  { status, epoch, leaseUntil }: Readonly<RunRecord>,
  when: FinishCondition,
  now: number,
): 'finished' | 'ended' | 'kept' {
  if (status === 'ended') return 'ended'
  const holds =
    when === 'live' ||
    (when === 'queued' && status === 'queued') ||
    (when === 'lapsed' && status === 'running' && leaseUntil <= now) ||
    (status === 'running' && when === epoch)
  return holds ? 'finished' : 'kept'
}

/**
 * Ends the run from outside. Returns the entry: in an epoch of its own, since events behind the last known one may have been made, and read
 * by somebody, before a server lost them.
 */
export function applyFinish(record: RunRecord, event: EndEvent | FailEvent): RawEntry {
  const base = formatOffset(record.last)
  record.epoch++
  record.seq = 0
  close(record, outcomeOf(event))
  return { epoch: record.epoch, first: 0, count: 1, json: `[${JSON.stringify({ ...event, base })}]` }
}

export function outcomeOf(event: EndEvent | FailEvent): Outcome {
  return event.type === 'end' ? event.reason : 'failed'
}

function close(record: RunRecord, outcome: Outcome): void {
  Object.assign(record, { status: 'ended', outcome, holder: '', leaseUntil: 0 })
}
