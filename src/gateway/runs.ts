import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { ClusterMember } from '../cluster/member.ts'
import { type FinishAnswer, laneOf, type QueueFull, type RunLogs, type RunPage } from '../cluster/run-log.ts'
import type { Step } from '../core/run/cursor.ts'
import type { EndEvent, PlacedEvent } from '../core/run/events.ts'
import { compareOffsets, formatOffset, type Offset, origin, parseOffset } from '../core/run/offset.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import { isName } from '../protocol/link-records.ts'
import { isSessionId } from '../protocol/names.ts'
import type { LinkedNode } from './linked-node.ts'
import { LiveRun } from './live-run.ts'
import { type OwnedRun, StopReason } from './owned-run.ts'
import { QueuedRuns } from './queued-runs.ts'
import { RelayedRun } from './relayed-run.ts'
import type { RunCounters, RunHost } from './run-host.ts'
import { RunLane } from './run-lane.ts'
import { newRunId } from './run-owner.ts'
import { RunPace } from './run-pace.ts'
import { RunProducer } from './run-producer.ts'
import { pieces, Reader, restart, takeEntries } from './run-reader.ts'
import {
  type OpenedReader,
  type ReaderOptions,
  type RelayRun,
  type RunService,
  type RunSink,
  type RunState,
  RunsRefused,
  type StartedRun,
  type StartRun,
} from './run-types.ts'
import { noTracing, type Tracing } from './tracing.ts'
import type { Turn } from './turn.ts'

export interface RunsOptions {
  gatewayId: string
  limits: Readonly<Limits>
  cluster: ClusterMember
  turn: Turn
  now: () => number
  /** Asked before each new run; true: it is refused. Default: never. */
  refusesNew?: () => boolean
  /** Default: nothing is traced. */
  tracing?: Tracing
}

const cancelled: EndEvent = { type: 'end', reason: 'cancelled' }
const retryLeastMs = 20
const retryMostMs = 500
const tickMs = 1_000
const leaveStepMs = 20
const doneMs = 3_000
/** Numbers above are the nodes' own, for runs that they attach. */
export const gatewayNumbersMost = 2 ** 31 - 1
/** A gateway that is overloaded is given so much time. */
const overloadMs = 5_000
const retryAfterMs = { least: 1_000, most: 30_000 }

/** The runs of one gateway: those that it starts, those that it holds with a producer, and those that are read here. */
export class Runs implements RunService, RunHost {
  readonly id: string
  readonly limits: Readonly<Limits>
  readonly logs: RunLogs
  readonly turn: Turn
  readonly tracing: Tracing
  readonly counters: RunCounters = { tokens: 0, started: 0, ended: { complete: 0, cancelled: 0, failed: 0 } }
  readonly owned = new Map<string, OwnedRun>()
  readonly relays = new Map<string, RelayedRun>()
  readonly live = new Map<string, LiveRun>()
  private readonly cluster: ClusterMember
  private readonly lanes = new Map<string, RunLane>()
  private readonly queued: QueuedRuns
  /** Runs that end with their last reader, and since when. */
  private readonly attached = new Map<string, number>()
  private readonly timers: NodeJS.Timeout[] = []
  readonly expected = new Set<string>()
  readonly pace = new RunPace()
  private readonly clock: () => number
  private readonly refusesNew: () => boolean
  private turnAt: number | null = null
  private lastNumber = 0
  private failedAt = Number.NEGATIVE_INFINITY
  private leaving = false
  private stopping = false

  constructor({
    gatewayId,
    limits,
    cluster,
    turn,
    now,
    refusesNew = () => false,
    tracing = noTracing,
  }: RunsOptions) {
    this.id = gatewayId
    this.limits = limits
    this.cluster = cluster
    this.logs = cluster.runs
    this.turn = turn
    this.tracing = tracing
    this.clock = now
    this.refusesNew = refusesNew
    this.queued = new QueuedRuns(this, (lane, run) => this.queue(lane, run))
  }

  begin(): void {
    this.timers.push(setInterval(() => this.tick(), tickMs))
    this.timers.push(setInterval(() => void this.renew(), this.limits.runLeaseRefreshMs))
    this.timers.push(setInterval(() => void this.takeOver(), this.limits.runLeaseMs / 2))
    void this.cluster.bus.subscribe(controlTopic(this.id), (payload) => this.told(payload.toString()))
  }

  /** Gives out and takes no more runs, and sends readers elsewhere, spread evenly over this time. Runs that are held go on until `stop`. */
  leave(spreadMs: number): void {
    this.leaving = true
    // Who cannot come back has until the gateway stops.
    const leaving = [...this.live.values()].filter(({ run }) => !this.attached.has(run))
    const readers = leaving.flatMap((live) => [...live.readers])
    const beganAt = this.now()
    let told = 0
    const step = setInterval(() => {
      const due = Math.ceil(readers.length * Math.min(1, (this.now() - beganAt) / spreadMs))
      for (; told < due; told++) readers[told]!.away()
      if (told === readers.length) clearInterval(step)
    }, leaveStepMs)
    this.timers.push(step)
  }

  get readers(): number {
    let count = 0
    for (const live of this.live.values()) count += live.readers.size
    return count
  }

  /** Readers are told to go on elsewhere. */
  stop(): void {
    this.stopping = true
    for (const timer of this.timers) clearInterval(timer)
    this.pace.stop()
    for (const live of [...this.live.values()]) {
      for (const reader of [...live.readers]) reader.away()
      live.close()
    }
  }

  // For the edge.

  async start(request: StartRun): Promise<StartedRun> {
    this.check(request)
    const { pool, name, requestJson, idempotencyKey, owner = null } = request
    const lane = laneOf(pool, name)
    const run = newRunId(owner)
    if (idempotencyKey === null) return await this.make(lane, run, request)
    const hash = createHash('sha256').update(requestJson).digest('base64url')
    const named = await this.logs.name(lane, idempotencyKey, { run, hash })
    if (named.run === run) return await this.make(lane, run, request)
    if (named.hash !== hash)
      throw new EvenkeelError('CONFLICT', 'the idempotency key was used with another request; use a new one')
    const known = await this.logs.read(named.run, origin, 1)
    // Whoever began it did not get this far.
    if (known === null) return await this.make(lane, named.run, request)
    // Nor do we know whether it came into the queue. Twice does no harm: it is claimed once.
    if (known.status === 'queued') await this.queue(lane, named.run)
    return { run: named.run, created: false }
  }

  async openReader(
    run: string,
    after: string | null,
    sink: RunSink,
    options: ReaderOptions = {},
  ): Promise<OpenedReader> {
    checkRun(run)
    if (!this.accepting) throw draining()
    const offset = after === null || after === '' ? null : parseOffset(after)
    if (offset === null && after !== null && after !== '')
      throw new EvenkeelError('BAD_REQUEST', 'after must be an offset that this run gave, such as 1-20')
    const place = offset !== null && compareOffsets(offset, origin) > 0 ? offset : null
    const live = this.liveRun(run)
    const reader = new Reader(live, place, sink, options, (left) => this.readerEnded(run, left))
    live.add(reader)
    this.relays.get(run)?.flush()
    try {
      await live.ready()
      return await this.judge(live, reader, place)
    } catch (error) {
      live.remove(reader)
      throw error
    }
  }

  async cancel(run: string): Promise<RunState> {
    checkRun(run)
    this.relays.get(run)?.flush()
    const answer = await this.logs.finish(run, cancelled, 'live')
    if (answer.result === 'missing') throw unknownRun()
    this.wasCancelled(run, answer)
    return await this.status(run)
  }

  async status(run: string): Promise<RunState> {
    checkRun(run)
    this.relays.get(run)?.flush()
    const page = await this.logs.read(run, origin, 1)
    if (page === null) throw this.unknownRun()
    const { status, outcome, head } = page
    return { run, status, outcome, offset: formatOffset(head) }
  }

  relay(request: RelayRun): RelayedRun {
    if (this.stopping)
      throw new EvenkeelError('DRAINING', 'the gateway stops; try again, another one will answer')
    return new RelayedRun(this, request)
  }

  label(label: string, run: string): Promise<void> {
    return this.logs.label(label, run)
  }

  labelled(label: string): Promise<string | null> {
    return this.logs.labelled(label)
  }

  // For links.

  nodeJoined(node: LinkedNode): void {
    for (const offer of node.hello.runs ?? []) {
      const lane = this.lane(laneOf(node.pool, offer.name))
      const producer = new RunProducer(node, offer)
      node.producers.set(offer.name, producer)
      this.lanes.set(lane.name, lane)
      lane.add(producer)
      lane.pumpSoon()
      setTimeout(() => void lane.takeOverdue(), 0)
    }
  }

  nodeLost(node: LinkedNode): void {
    for (const { name } of node.hello.runs ?? []) {
      const producer = node.producers.get(name)
      if (producer === undefined) continue
      this.lane(laneOf(node.pool, name)).producers.delete(producer)
      for (const owned of [...producer.runs]) void owned.producerLost()
    }
    node.producers.clear()
  }

  /** A node has room again, or has not. */
  nodeReported(node: LinkedNode): void {
    for (const [name, producer] of node.producers) {
      producer.refusing = false
      this.lane(laneOf(node.pool, name)).pumpSoon()
    }
  }

  /** Kept once it has had a producer. */
  lane(name: string): RunLane {
    return this.lanes.get(name) ?? new RunLane(this, name)
  }

  // For the parts.

  /** The time of this turn: a clock that is asked several times for each token would be what tokens cost most. */
  now(): number {
    if (this.turnAt === null) {
      this.turnAt = this.clock()
      setImmediate(this.turnEnded)
    }
    return this.turnAt
  }

  private readonly turnEnded = (): void => {
    this.turnAt = null
  }

  nextNumber(): number {
    this.lastNumber = (this.lastNumber % gatewayNumbersMost) + 1
    return this.lastNumber
  }

  get accepting(): boolean {
    return !this.leaving && !this.stopping
  }

  async insist<T>(step: () => Promise<T>, wanted: () => boolean): Promise<T | null> {
    for (let waitMs = retryLeastMs; ; waitMs = Math.min(waitMs * 2, retryMostMs)) {
      try {
        return await step()
      } catch {
        this.failed()
        if (!wanted() || this.stopping) return null
        await delay(waitMs)
        if (!wanted() || this.stopping) return null
      }
    }
  }

  jobDone(lane: string, job: string): void {
    // Not at once: a server that is killed may lose what it was told last, the end of the run too. A job that stays behind is
    // found to be done when somebody takes it over.
    setTimeout(() => void this.logs.queues.done(lane, job).catch(() => {}), doneMs).unref()
  }

  taken(run: string): void {
    this.queued.forget(run)
  }

  watchQueued(run: string, lane: string, requestJson: string): void {
    this.queued.watch(run, lane, requestJson)
  }

  // Inside.

  private check({ pool, name, requestJson, idempotencyKey }: StartRun): void {
    if (!this.accepting) throw draining()
    if (!isName(pool)) throw new EvenkeelError('BAD_REQUEST', 'pool must be 1 to 64 of A-Z a-z 0-9 . _ : -')
    if (!isName(name)) throw new EvenkeelError('BAD_REQUEST', 'name must be 1 to 64 of A-Z a-z 0-9 . _ : -')
    if (idempotencyKey !== null && !/^[\x21-\x7e]{1,255}$/.test(idempotencyKey))
      throw new EvenkeelError('BAD_REQUEST', 'Idempotency-Key must be 1 to 255 printable ASCII characters')
    const { runRequestBytes } = this.limits
    if (Buffer.byteLength(requestJson) > runRequestBytes)
      throw new EvenkeelError('TOO_LARGE', `the request of a run has at most ${runRequestBytes} bytes`)
  }

  private async make(laneName: string, run: string, start: StartRun): Promise<StartedRun> {
    const { requestJson, mode, trace = null } = start
    if (this.refusesNew())
      throw new RunsRefused('the gateway is overloaded; try again later', overloadMs, 'OVERLOADED')
    // Together, so that they are one way to Redis and back.
    const created = this.logs.create(run, { lane: laneName, requestJson, trace })
    const [, queued] = await Promise.all([created, this.queue(laneName, run)])
    if (queued !== null) {
      await this.logs.discard(run)
      throw tooMany(queued)
    }
    if (mode === 'attached') this.attached.set(run, this.now())
    this.counters.started++
    this.watchQueued(run, laneName, requestJson)
    return { run, created: true }
  }

  /** Not null: it is not in the queue. */
  private async queue(laneName: string, run: string): Promise<QueueFull | null> {
    const lane = this.lane(laneName)
    const bounds = { depthMost: this.limits.runQueueDepth, ageMsMost: this.limits.runQueueAgeMs }
    const added = this.logs.queues.add(laneName, run, bounds)
    const hasPlace = lane.free > 0
    // It is asked for before the answer is there that it was added.
    if (hasPlace) {
      this.expected.add(run)
      void lane.pump().then(() => this.unexpected(run))
    }
    const queued = await added
    if (queued.job === null) return queued
    if (!hasPlace) this.logs.queues.hint(laneName)
    return null
  }

  private unexpected(run: string): void {
    this.expected.delete(run)
    this.live.get(run)?.settle()
  }

  private liveRun(run: string): LiveRun {
    let live = this.live.get(run)
    if (live === undefined) {
      live = new LiveRun(this, run)
      this.live.set(run, live)
    }
    return live
  }

  private async judge(live: LiveRun, reader: Reader, after: Offset | null): Promise<OpenedReader> {
    const { cursor } = reader
    const { runEntryBytes } = this.limits
    let page = await this.firstPage(reader)
    let events: PlacedEvent[] = []
    let isReset = after !== null && compareOffsets(after, page.head) > 0
    let [first = [], ...others] = pieces(page.entries, runEntryBytes)
    let step: Step = isReset ? 'reset' : takeEntries(first, cursor, events)
    if (step === 'reset') {
      // It has more than is valid.
      isReset = true
      cursor.rewind()
      page = await this.firstPage(reader)
      events = [restart()]
      ;[first = [], ...others] = pieces(page.entries, runEntryBytes)
      step = takeEntries(first, cursor, events)
    }
    if (reader.isClosed) throw draining()
    live.saw(page)
    live.reached(page.head)
    if (step === 'hole' || step === 'reset') {
      live.remove(reader)
      return { verdict: 'gap', oldest: formatOffset(page.start) }
    }
    if (page.status === 'ended' && after !== null && compareOffsets(after, page.head) === 0) {
      live.remove(reader)
      return { verdict: 'over' }
    }
    const verdict =
      isReset || (after !== null && compareOffsets(after, page.start) < 0) ? 'reset' : 'continuous'
    reader.begin(after ?? origin, page, events, others)
    return { verdict, reader, status: page.status }
  }

  /** Who comes behind a failure of Redis is not told that there is no such run while its holder may be making it anew. */
  private unknownRun(): EvenkeelError {
    if (this.now() - this.failedAt > this.limits.runLeaseMs) return unknownRun()
    return new EvenkeelError('NOT_READY', 'Redis was away, and may have lost this run; try again soon')
  }

  private failed(): void {
    this.failedAt = this.now()
    this.queued.doubt()
  }

  private wasCancelled(run: string, { result, holder, lane, job }: FinishAnswer): void {
    if (result !== 'finished') return
    this.counters.ended.cancelled++
    this.queued.forget(run)
    const owned = this.owned.get(run)
    const relayed = this.relays.get(run)
    if (owned !== undefined) owned.drop(StopReason.cancelled)
    else if (relayed !== undefined) relayed.stop('cancelled')
    else if (holder !== '') this.tell(holder, run)
    if (job !== '') this.jobDone(lane, job)
    this.live.get(run)?.look()
  }

  private async firstPage(reader: Reader): Promise<RunPage> {
    const page = await reader.read()
    if (page === null) throw this.unknownRun()
    return page
  }

  private readerEnded(run: string, left: boolean): void {
    if (this.live.has(run) || !this.attached.delete(run) || !left) return
    this.cancelLater(run)
  }

  private cancelLater(run: string): void {
    void this.insist(
      () => this.logs.finish(run, cancelled, 'live').then((answer) => this.wasCancelled(run, answer)),
      () => true,
    )
  }

  private tick(): void {
    const now = this.now()
    if (!this.cluster.bus.status().ready) this.failed()
    for (const live of [...this.live.values()]) live.tick(now)
    for (const lane of this.lanes.values()) if (lane.free > 0) lane.pumpSoon()
    for (const [run, since] of this.attached) {
      if (now - since < this.limits.runQueueMs) break
      if (this.live.has(run)) continue
      // Nobody ever read it.
      this.attached.delete(run)
      this.cancelLater(run)
    }
    this.queued.tick(now, tickMs)
  }

  private async renew(): Promise<void> {
    const now = this.now()
    const byLane = Map.groupBy(this.owned.values(), ({ lane }) => lane.name)
    for (const [lane, runs] of byLane)
      this.logs.queues
        .beat(
          lane,
          runs.map(({ job }) => job),
        )
        .catch(() => {})
    for (const owned of [...this.owned.values()]) {
      if (now - owned.loggedAt < this.limits.runLeaseRefreshMs / 2) continue
      owned.renew().catch(() => this.failed())
    }
    for (const relayed of [...this.relays.values()]) {
      if (now - relayed.loggedAt < this.limits.runLeaseRefreshMs / 2) continue
      relayed.renew().catch(() => this.failed())
    }
  }

  /** What other gateways have left behind. Behind a failure they get the time of a lease to say that they are there. */
  private async takeOver(): Promise<void> {
    if (!this.accepting || this.now() - this.failedAt < this.limits.runLeaseMs) return
    for (const lane of this.lanes.values()) await lane.takeOverdue()
  }

  private tell(gateway: string, run: string): void {
    // The holder learns it from its next append or renewal anyway.
    this.cluster.bus.publish(controlTopic(gateway), Buffer.from(run), true).catch(() => {})
  }

  private told(run: string): void {
    this.owned.get(run)?.drop(StopReason.cancelled)
    this.relays.get(run)?.stop('cancelled')
    this.live.get(run)?.look()
  }
}

function controlTopic(gateway: string): string {
  return `$runs.${gateway}`
}

function checkRun(run: string): void {
  if (!isSessionId(run)) throw unknownRun()
}

function draining(): EvenkeelError {
  return new EvenkeelError('DRAINING', 'the gateway stops; try again, another one will answer')
}

function unknownRun(): EvenkeelError {
  return new EvenkeelError('NOT_FOUND', 'no such run: it never was, or has been over for too long')
}

function tooMany({ depth, ageMs }: QueueFull): RunsRefused {
  const text = `${depth} runs wait for a producer, the first for ${Math.round(ageMs / 1000)} s; try again later`
  return new RunsRefused(text, Math.min(Math.max(ageMs, retryAfterMs.least), retryAfterMs.most))
}
