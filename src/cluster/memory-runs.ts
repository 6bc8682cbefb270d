import { type RawEntry, sizeOf } from '../core/run/entry.ts'
import type { EndEvent, FailEvent } from '../core/run/events.ts'
import {
  applyAppend,
  applyClaim,
  applyFinish,
  type FinishCondition,
  judgeAppend,
  judgeClaim,
  judgeFinish,
  newRecord,
  type RunRecord,
} from '../core/run/log-state.ts'
import { compareOffsets, type Offset, origin } from '../core/run/offset.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import { MemoryQueues } from './memory-run-queues.ts'
import type {
  AppendAnswer,
  AppendRequest,
  Attached,
  ClaimAnswer,
  ClaimRequest,
  FinishAnswer,
  NamedRun,
  NewRun,
  RevivedRun,
  RunLimit,
  RunLogs,
  RunPage,
} from './run-log.ts'

interface StoredRun extends NewRun {
  readonly record: RunRecord
  readonly entries: RawEntry[]
  queuedAt: number
  job: string
  bytes: number
  endedAt: number | null
}

/** What Redis keeps for the others, with the steps of the scripts in `lua/run-*.lua`. */
export class RunRecords {
  readonly now: () => number
  readonly limits: Pick<Limits, RunLimit>
  readonly runs = new Map<string, StoredRun>()
  readonly keys = new Map<string, NamedRun & { endsAt: number }>()
  /** The newest last. */
  readonly labels = new Map<string, { run: string; endsAt: number }>()
  readonly followers = new Set<Map<string, (entry: RawEntry) => void>>()
  readonly queues: MemoryQueues
  private bytes = 0

  constructor(now: () => number, limits: Pick<Limits, RunLimit>) {
    this.now = now
    this.limits = limits
    this.queues = new MemoryQueues(now)
  }

  get(run: string): StoredRun | undefined {
    const stored = this.runs.get(run)
    if (stored === undefined || stored.endedAt === null) return stored
    if (this.now() - stored.endedAt < this.limits.runTtlMs) return stored
    this.forget(run, stored)
    return undefined
  }

  add(run: string, created: NewRun): void {
    if (this.get(run) !== undefined) return
    this.runs.set(run, {
      ...created,
      record: newRecord(),
      entries: [],
      queuedAt: this.now(),
      job: '',
      bytes: created.requestJson.length,
      endedAt: null,
    })
    this.bytes += created.requestJson.length
    this.makeRoom()
  }

  push(run: string, stored: StoredRun, entry: RawEntry): void {
    stored.entries.push(entry)
    const bytes = sizeOf(entry)
    stored.bytes += bytes
    this.bytes += bytes
    if (stored.record.status === 'ended') {
      stored.endedAt = this.now()
      // Behind all that ended before it, so that the oldest come first.
      this.runs.delete(run)
      this.runs.set(run, stored)
    }
    for (const listeners of this.followers) listeners.get(run)?.(entry)
    if (this.bytes > this.limits.runMemoryBytes) this.makeRoom()
  }

  forget(run: string, stored: StoredRun): void {
    this.runs.delete(run)
    this.bytes -= stored.bytes
  }

  /** Ended runs that are due, and those that there is no room for. */
  private makeRoom(): void {
    for (const [run, stored] of this.runs) {
      if (stored.endedAt === null) continue
      const isDue = this.now() - stored.endedAt >= this.limits.runTtlMs
      if (!isDue && this.bytes <= this.limits.runMemoryBytes) break
      this.forget(run, stored)
    }
    for (const [key, { endsAt }] of this.keys) {
      if (endsAt > this.now()) break
      this.keys.delete(key)
    }
    for (const [label, { endsAt }] of this.labels) {
      if (endsAt > this.now()) break
      this.labels.delete(label)
    }
  }
}

/** Logs of runs in the memory of this process. */
export class MemoryRuns implements RunLogs {
  readonly isRemote = false
  private readonly records: RunRecords
  private readonly isClosed: () => boolean
  private readonly listeners = new Map<string, (entry: RawEntry) => void>()

  constructor(records: RunRecords, isClosed: () => boolean) {
    this.records = records
    this.isClosed = isClosed
    records.followers.add(this.listeners)
  }

  get queues(): MemoryQueues {
    return this.records.queues
  }

  async name(lane: string, key: string, named: NamedRun): Promise<NamedRun> {
    this.assertOpen()
    const { keys, now, limits } = this.records
    const full = `${lane} ${key}`
    const known = keys.get(full)
    if (known !== undefined && known.endsAt > now()) return known
    keys.delete(full)
    keys.set(full, { ...named, endsAt: now() + limits.runKeyMs })
    return named
  }

  async label(label: string, run: string): Promise<void> {
    this.assertOpen()
    const { labels, now, limits } = this.records
    labels.delete(label)
    labels.set(label, { run, endsAt: now() + limits.runIdleMs })
  }

  async labelled(label: string): Promise<string | null> {
    this.assertOpen()
    const known = this.records.labels.get(label)
    return known !== undefined && known.endsAt > this.records.now() ? known.run : null
  }

  async create(run: string, created: NewRun): Promise<void> {
    this.assertOpen()
    this.records.add(run, created)
  }

  async discard(run: string): Promise<void> {
    const stored = this.records.get(run)
    if (stored?.record.epoch === 0) this.records.forget(run, stored)
  }

  async claim(run: string, { holder, job, onLoss, epoch }: ClaimRequest): Promise<ClaimAnswer> {
    this.assertOpen()
    const stored = this.records.get(run)
    if (stored === undefined) return { result: 'missing' }
    const { now, limits } = this.records
    const { record } = stored
    const claim = { holder, onLoss, epoch, now: now(), lossesMost: limits.runLossesMost }
    const judged = judgeClaim(record, claim)
    if (judged.result === 'failed') {
      this.records.push(run, stored, applyFinish(record, judged.event))
      return { result: 'failed' }
    }
    if (judged.result !== 'claimed') return { result: judged.result }
    const fence = applyClaim(record, claim, judged, now() + limits.runLeaseMs)
    stored.job = job
    this.records.push(run, stored, fence)
    const base = judged.resume === 'continue' ? judged.base : null
    const { requestJson, trace = null, queuedAt } = stored
    return { result: 'claimed', epoch: record.epoch, base, requestJson, trace, queuedMs: now() - queuedAt }
  }

  async append(run: string, { holder, entry, effects, terminal }: AppendRequest): Promise<AppendAnswer> {
    this.assertOpen()
    const stored = this.records.get(run)
    if (stored === undefined) return { result: 'missing', seq: 0 }
    const { record } = stored
    const { epoch, first, count } = entry
    const append = { epoch, first, count, bytes: sizeOf(entry), terminal }
    let result = judgeAppend(record, append, this.records.limits.runLogBytes)
    if (result === 'appended' && record.holder !== holder) result = 'fenced'
    if (result === 'appended') {
      record.leaseUntil = this.records.now() + this.records.limits.runLeaseMs
      applyAppend(record, append, effects)
      this.records.push(run, stored, entry)
    }
    return { result, seq: record.seq }
  }

  async finish(run: string, event: EndEvent | FailEvent, when: FinishCondition): Promise<FinishAnswer> {
    this.assertOpen()
    const stored = this.records.get(run)
    if (stored === undefined) return { result: 'missing', lane: '', job: '', holder: '' }
    const { record, lane, job } = stored
    const { holder } = record
    const result = judgeFinish(record, when, this.records.now())
    if (result === 'finished') this.records.push(run, stored, applyFinish(record, event))
    return { result, lane, job, holder }
  }

  async renew(run: string, holder: string, epoch: number): Promise<boolean> {
    this.assertOpen()
    const record = this.held(run, holder, epoch)
    if (record === null) return false
    record.leaseUntil = this.records.now() + this.records.limits.runLeaseMs
    return true
  }

  async attach(run: string, holder: string, epoch: number): Promise<Attached | null> {
    this.assertOpen()
    const stored = this.records.get(run)
    if (stored === undefined) return null
    const { record, job, lane, requestJson, trace = null } = stored
    if (record.status !== 'running' || record.epoch !== epoch) return null
    record.holder = holder
    record.leaseUntil = this.records.now() + this.records.limits.runLeaseMs
    const { seq, onLoss, effects, last } = record
    const touched = compareOffsets(last, origin) > 0
    return { seq, job, onLoss, lane, requestJson, trace, touched, effects }
  }

  async revive(run: string, { holder, job, onLoss, epoch, ...created }: RevivedRun): Promise<boolean> {
    this.assertOpen()
    if (this.records.get(run) !== undefined) return false
    this.records.add(run, created)
    const stored = this.records.get(run)!
    stored.record.epoch = epoch - 1
    const { now, limits } = this.records
    const claim = { holder, onLoss, epoch: null, now: now(), lossesMost: limits.runLossesMost }
    const begins = { resume: 'restart', base: origin } as const
    this.records.push(run, stored, applyClaim(stored.record, claim, begins, now() + limits.runLeaseMs))
    stored.job = job
    stored.record.losses = 1
    return true
  }

  async release(run: string, holder: string, epoch: number, lost: boolean): Promise<boolean> {
    this.assertOpen()
    const record = this.held(run, holder, epoch)
    if (record === null) return false
    Object.assign(record, { status: 'queued', holder: '', leaseUntil: 0 })
    if (lost) record.losses++
    this.records.get(run)!.queuedAt = this.records.now()
    return true
  }

  async read(run: string, after: Offset, bytesMost: number): Promise<RunPage | null> {
    this.assertOpen()
    const stored = this.records.get(run)
    if (stored === undefined) return null
    const { record, entries, lane, queuedAt } = stored
    const isBefore = compareOffsets(after, record.start) < 0
    const from = isBefore ? firstAt(entries, record.start) : firstBehind(entries, after)
    let bytes = 0
    let to = from
    while (to < entries.length && (to === from || bytes + sizeOf(entries[to]!) <= bytesMost))
      bytes += sizeOf(entries[to++]!)
    const now = this.records.now()
    return {
      status: record.status,
      outcome: record.outcome,
      lane,
      head: { epoch: record.epoch, seq: record.seq },
      start: record.start,
      entries: entries.slice(from, to),
      more: to < entries.length,
      leaseLeftMs: record.status === 'running' ? record.leaseUntil - now : 0,
      queuedMs: now - queuedAt,
    }
  }

  async follow(run: string, listener: (entry: RawEntry) => void): Promise<void> {
    this.listeners.set(run, listener)
  }

  async unfollow(run: string): Promise<void> {
    this.listeners.delete(run)
  }

  close(): void {
    this.records.followers.delete(this.listeners)
  }

  private held(run: string, holder: string, epoch: number): RunRecord | null {
    const record = this.records.get(run)?.record
    if (record?.status !== 'running' || record.holder !== holder || record.epoch !== epoch) return null
    return record
  }

  private assertOpen(): void {
    if (this.isClosed()) throw new EvenkeelError('NOT_READY', 'the cluster is closed')
  }
}

function lastSeq({ epoch, first, count }: RawEntry): Offset {
  return { epoch, seq: first + count - 1 }
}

/** Index of the first entry that ends behind the offset; they are in order. */
function firstBehind(entries: readonly RawEntry[], after: Offset): number {
  let [low, high] = [0, entries.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (compareOffsets(lastSeq(entries[middle]!), after) > 0) high = middle
    else low = middle + 1
  }
  return low
}

function firstAt(entries: readonly RawEntry[], at: Offset): number {
  const before = at.seq > 0 ? { epoch: at.epoch, seq: at.seq - 1 } : { epoch: at.epoch - 1, seq: 2 ** 32 }
  return firstBehind(entries, before)
}
