import type { ClaimAnswer } from '../cluster/run-log.ts'
import {
  encodeEvent,
  encodeFence,
  failEvent,
  hasEffect,
  parseEntry,
  type RawEntry,
} from '../core/run/entry.ts'
import type { EndEvent, FailEvent, LogEvent } from '../core/run/events.ts'
import { type Outcome, outcomeOf } from '../core/run/log-state.ts'
import { type Offset, origin } from '../core/run/offset.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type LossPolicy, RecordType } from '../protocol/link-records.ts'
import { type RunTrace, traceContextOf } from '../protocol/trace-context.ts'
import { PendingEvents } from './pending-events.ts'
import type { RunHost } from './run-host.ts'
import type { RunLane } from './run-lane.ts'
import type { RunProducer } from './run-producer.ts'
import type { RunSpan } from './tracing.ts'

/** Why a producer is told to stop: the body of STOP. */
export const StopReason = { cancelled: 0, fenced: 1 } as const

/** How far an attempt is that this gateway begins, or takes on. */
export interface Attempt {
  readonly epoch: number
  readonly seq: number
  readonly requestJson: string
  readonly trace: RunTrace | null
  /** Before this gateway had it. */
  readonly queuedMs: number
  /** Something is logged that counts. */
  readonly touched: boolean
  readonly effects: boolean
}

const noBounds = { depthMost: Number.MAX_SAFE_INTEGER, ageMsMost: Number.MAX_SAFE_INTEGER }
/** Of events: well within what a producer keeps before it waits. */
const acknowledgeBytes = 32 * 1024
/** What of a lost run is logged and valid is given to the next producer in pages of this size. */
const emittedPageBytes = 256 * 1024

/**
 * A run whose lease this gateway has: takes what its producer makes, logs it in order, and finds another producer when this one is lost.
 * Appends are made one at a time; what comes meanwhile leaves as one entry.
 */
export class OwnedRun {
  readonly run: string
  readonly lane: RunLane
  job: string
  onLoss: LossPolicy
  epoch: number
  /** On its link. */
  number = 0
  producer: RunProducer | null = null
  over = false
  /** When the log took something of it last; the lease counts from there. */
  loggedAt: number
  private requestJson: string
  private readonly trace: RunTrace | null
  /** null: nothing is traced. */
  private readonly span: RunSpan | null
  private readonly host: RunHost
  /** The last event that is logged, and the last that has come. */
  private logged = 0
  /** Bytes of events that the producer does not know to be logged. */
  private unsaid = 0
  private received = 0
  private readonly pending = new PendingEvents()
  private end: EndEvent | FailEvent | null = null
  private writing: Promise<void> | null = null
  private reviving = false
  /** Something was logged of this attempt, or is continued by it. */
  private touched: boolean
  private effects: boolean

  constructor(
    host: RunHost,
    lane: RunLane,
    run: string,
    job: string,
    onLoss: LossPolicy,
    { epoch, seq, requestJson, trace, queuedMs, touched, effects }: Attempt,
  ) {
    this.host = host
    this.lane = lane
    this.run = run
    this.job = job
    this.onLoss = onLoss
    this.epoch = epoch
    this.logged = seq
    this.received = seq
    this.requestJson = requestJson
    this.trace = trace
    this.span = host.tracing.run(lane.name, epoch, trace, queuedMs)
    this.touched = touched
    this.effects = effects
    this.loggedAt = host.now()
    host.owned.set(run, this)
    host.live.get(run)?.owned()
    host.taken(run)
  }

  /** Gives the run to a producer. `base`: what is logged up to there is valid, and to be continued. */
  async give(producer: RunProducer, base: Offset | null): Promise<void> {
    this.attachTo(producer, this.host.nextNumber())
    const { epoch, number } = this
    if (base !== null && !(await this.sendEmitted(producer, base))) return
    if (this.producer !== producer || this.epoch !== epoch || this.over) return
    const context = this.span?.context ?? (this.trace === null ? null : traceContextOf({ ...this.trace }))
    const order = Buffer.from(JSON.stringify({ run: this.run, name: producer.offer.name, ...context }))
    const request = Buffer.from(this.requestJson)
    const body = Buffer.concat([order, request])
    producer.node.link.putPayload(RecordType.run, 0, number, epoch, order.length, body)
  }

  /** The producer came by itself, with an attempt that goes on. */
  attachTo(producer: RunProducer, number: number): void {
    this.number = number
    this.producer = producer
    producer.runs.add(this)
    producer.node.runs.set(number, this)
    this.span?.given(producer.id)
  }

  /** Tells an attached producer how far the log is. */
  acknowledge(): void {
    this.unsaid = 0
    this.producer?.node.link.putU32(RecordType.logged, 0, this.number, this.epoch, this.logged)
  }

  /** A producer can wait for it as long as it has room: a write for each token would double what a run costs. */
  private acknowledgeSoon(bytes: number): void {
    this.unsaid += bytes
    if (this.unsaid >= acknowledgeBytes) this.acknowledge()
    else this.host.pace.acknowledgeLater(this)
  }

  /** APPEND. Throws RECORD_INVALID. */
  append(first: number, events: readonly LogEvent[], json: string): void {
    this.receive(first, events.length)
    this.pending.push({ first, events, inner: json.slice(1, -1) })
    // The first token waits for nothing.
    if (first === 1 || !this.host.logs.isRemote) this.write()
    else this.host.pace.writeLater(this)
  }

  /** END. Throws RECORD_INVALID. */
  finish(seq: number, event: EndEvent | FailEvent): void {
    this.receive(seq, 1)
    this.end = event
    this.pending.push({ first: seq, events: [event], inner: encodeEvent(event) })
    this.write()
  }

  /** The producer's link is gone, or it is silent. */
  async producerLost(): Promise<void> {
    this.detach()
    this.span?.lost()
    // What it has made counts, most of all its end.
    await this.writing
    if (this.over || this.producer !== null) return
    // Without another producer here an attempt would begin for nothing.
    if (this.mayRestart && this.lane.pick() === null) await this.giveBack(true)
    else await this.reclaim()
  }

  /** DECLINE: it has not begun. */
  async refused(): Promise<void> {
    this.detach()
    if (!this.over) await this.giveBack(false)
  }

  /** The run is over, or another gateway has it. */
  drop(reason: number): void {
    if (this.over) return
    this.over = true
    this.span?.end(reason === StopReason.cancelled ? 'cancelled' : 'handed-over')
    this.pending.clear()
    this.producer?.node.link.putU32(RecordType.stop, 0, this.number, this.epoch, reason)
    this.detach()
    this.host.owned.delete(this.run)
    this.host.live.get(this.run)?.disowned()
    this.lane.pumpSoon()
  }

  /** Renews the lease and says to the queue that the job is in hand. Rejects as the log does. */
  async renew(): Promise<void> {
    const { host, run, epoch } = this
    const isHeld = await host.logs.renew(run, host.id, epoch)
    // Meanwhile it may have come to another attempt.
    if (this.over || this.epoch !== epoch) return
    if (isHeld) this.loggedAt = host.now()
    else if ((await host.logs.read(run, origin, 1)) === null) await this.logLost()
    else this.drop(StopReason.fenced)
  }

  /** Whether another attempt may begin, as the log would judge it. */
  private get mayRestart(): boolean {
    if (!this.touched) return true
    return this.onLoss === 'auto' ? !this.effects : this.onLoss !== 'fail'
  }

  private receive(first: number, count: number): void {
    if (this.end !== null) throw new EvenkeelError('RECORD_INVALID', `run ${this.run} has ended already`)
    if (first !== this.received + 1)
      throw new EvenkeelError(
        'RECORD_INVALID',
        `event ${first} of run ${this.run} comes behind ${this.received}`,
      )
    this.received += count
  }

  private detach(): void {
    const { producer } = this
    if (producer === null) return
    this.producer = null
    producer.runs.delete(this)
    if (producer.node.runs.get(this.number) === this) producer.node.runs.delete(this.number)
  }

  /** Logs what has come, unless that is under way. */
  write(): void {
    this.writing ??= this.writeAll().finally(() => (this.writing = null))
  }

  private async writeAll(): Promise<void> {
    while (!this.pending.isEmpty && !this.over) {
      const batch = this.pending.take(this.host.limits.runEntryBytes)
      const entry: RawEntry = {
        epoch: this.epoch,
        first: batch.first,
        count: batch.events.length,
        json: `[${batch.inner}]`,
      }
      const last = batch.events.at(-1)!
      const terminal: Outcome | null = last.type === 'end' || last.type === 'fail' ? outcomeOf(last) : null
      const effects = batch.events.some(hasEffect)
      this.effects ||= effects
      const { host } = this
      const answer = await host.insist(
        () => host.logs.append(this.run, { holder: host.id, entry, effects, terminal }),
        () => !this.over,
      )
      if (answer === null || this.over) return
      const { result, seq } = answer
      if (result === 'appended' || result === 'duplicate') this.taken(entry, batch.events, terminal)
      else if (result === 'overlap') this.pending.putBack(batch, seq)
      else await this.refusedBy(result)
    }
  }

  private taken(
    { epoch, first, count, json }: RawEntry,
    events: readonly LogEvent[],
    terminal: Outcome | null,
  ): void {
    const { host } = this
    this.logged = first + count - 1
    this.touched = true
    this.loggedAt = host.now()
    let tokens = 0
    for (const event of events) if (event.type === 'delta') tokens++
    host.counters.tokens += tokens
    this.span?.logged(tokens)
    host.live.get(this.run)?.push({ epoch, first, events })
    if (terminal === null) {
      this.acknowledgeSoon(json.length)
      return
    }
    this.acknowledge()
    host.counters.ended[terminal]++
    this.span?.end(terminal)
    this.over = true
    this.detach()
    host.owned.delete(this.run)
    host.jobDone(this.lane.name, this.job)
    this.lane.pumpSoon()
  }

  private async refusedBy(result: string): Promise<void> {
    const { host } = this
    if (result === 'full') {
      const text = `the log of the run would be longer than ${host.limits.runLogBytes} bytes`
      await this.fail(failEvent('TOO_LARGE', text, false))
    } else if (result === 'hole') {
      // The log has lost its end: what this producer makes next would not follow.
      this.stopProducer(StopReason.fenced)
      this.pending.clear()
      // Not from within the loop of writes.
      queueMicrotask(() => void this.producerLost())
    } else if (result === 'ended') this.ended()
    else if (result === 'missing') queueMicrotask(() => void this.logLost())
    else this.drop(StopReason.fenced)
  }

  /** Redis has lost its data: the run is begun anew where its handler allows it, and ends otherwise. */
  private async logLost(): Promise<void> {
    const { host, run, lane, onLoss, requestJson, mayRestart } = this
    this.stopProducer(StopReason.fenced)
    this.pending.clear()
    await this.writing
    // A log that nobody has heard of for so long may have been deleted behind its end.
    if (this.over || this.reviving) return
    if (host.now() - this.loggedAt > host.limits.runTtlMs / 2) {
      this.drop(StopReason.fenced)
      return
    }
    this.reviving = true
    const epoch = this.epoch + 1
    const wanted = () => !this.over
    const added = await host.insist(() => host.logs.queues.add(lane.name, run, noBounds), wanted)
    const job = added?.job ?? this.job
    const revived = { lane: lane.name, requestJson, trace: this.trace, holder: host.id, job, onLoss, epoch }
    const isRevived = await host.insist(() => host.logs.revive(run, revived), wanted)
    this.reviving = false
    if (isRevived === null || this.over) return
    if (!isRevived) {
      this.drop(StopReason.fenced)
      return
    }
    this.job = job
    this.begin({ epoch, base: null, requestJson })
    if (!mayRestart) await this.fail(failEvent('LOG_LOST', 'Redis has lost the log of this run', true))
    else await this.giveAway(null)
  }

  private async fail(event: FailEvent): Promise<void> {
    const { host } = this
    await host.insist(
      () => host.logs.finish(this.run, event, this.epoch),
      () => !this.over,
    )
    host.counters.ended.failed++
    this.span?.end('failed')
    this.ended()
  }

  private async giveAway(base: Offset | null): Promise<void> {
    const producer = this.lane.pick()
    if (producer === null) await this.giveBack(false)
    else await this.give(producer, base)
  }

  private ended(): void {
    this.drop(StopReason.cancelled)
    this.host.jobDone(this.lane.name, this.job)
    this.host.live.get(this.run)?.look()
  }

  private stopProducer(reason: number): void {
    this.producer?.node.link.putU32(RecordType.stop, 0, this.number, this.epoch, reason)
    this.detach()
  }

  /** Begins the next attempt here, or ends the run, as its handler wants it. */
  private async reclaim(): Promise<void> {
    const { host, run, job, onLoss, epoch } = this
    const claim = { holder: host.id, job, onLoss, epoch }
    const answer = await host.insist(
      () => host.logs.claim(run, claim),
      () => !this.over,
    )
    if (answer === null || this.over) return
    if (answer.result !== 'claimed') {
      // The producer has gone on by way of another gateway, or the run is over.
      if (answer.result === 'failed') {
        host.counters.ended.failed++
        this.span?.end('failed')
      }
      if (answer.result === 'held') this.drop(StopReason.fenced)
      else this.ended()
      return
    }
    this.begin(answer)
    await this.giveAway(answer.base)
  }

  /** A new attempt. */
  private begin({
    epoch,
    base,
    requestJson,
  }: Pick<ClaimAnswer & { result: 'claimed' }, 'epoch' | 'base' | 'requestJson'>): void {
    Object.assign(this, { epoch, logged: 0, received: 0, end: null })
    this.pending.clear()
    if (base === null) Object.assign(this, { touched: false, effects: false })
    this.requestJson = requestJson
    this.loggedAt = this.host.now()
    this.announce(base)
  }

  /** Tells readers here of the attempt's fence. */
  announce(base: Offset | null): void {
    const live = this.host.live.get(this.run)
    if (live === undefined) return
    const json = encodeFence(this.epoch, base === null ? 'restart' : 'continue', base ?? origin)
    live.push(parseEntry({ epoch: this.epoch, first: 0, json }))
  }

  /** No producer here: whoever has one takes it from the queue. */
  private async giveBack(lost: boolean): Promise<void> {
    const { host, run, epoch } = this
    const released = await host.insist(
      () => host.logs.release(run, host.id, epoch, lost),
      () => !this.over,
    )
    if (released === null || this.over) return
    this.drop(StopReason.fenced)
    if (!released) return
    host.watchQueued(run, this.lane.name, this.requestJson)
    await host.insist(
      () => host.logs.queues.putBack(this.lane.name, this.job, run),
      () => true,
    )
  }

  /** False: the producer is gone meanwhile. */
  private async sendEmitted(producer: RunProducer, base: Offset): Promise<boolean> {
    const { host, number, epoch } = this
    for (let after = origin; ; ) {
      const page = await host.insist(
        () => host.logs.read(this.run, after, emittedPageBytes),
        () => !this.over,
      )
      if (page === null || this.producer !== producer || this.epoch !== epoch) return false
      for (const entry of page.entries) {
        if (entry.epoch > base.epoch) return true
        after = { epoch: entry.epoch, seq: entry.first + entry.count - 1 }
        if (entry.first > 0)
          producer.node.link.putText(RecordType.emitted, 0, number, epoch, entry.epoch, entry.json)
      }
      if (!page.more) return true
    }
  }
}
