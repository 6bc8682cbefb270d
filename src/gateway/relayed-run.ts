import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { relayLaneOf } from '../cluster/run-log.ts'
import { encodeEvent, failEvent, type RawEntry } from '../core/run/entry.ts'
import {
  type DeltaEvent,
  type EndEvent,
  type FailEvent,
  type LogEvent,
  rawBytesKind,
  rawKind,
} from '../core/run/events.ts'
import { type Outcome, outcomeOf } from '../core/run/log-state.ts'
import { formatOffset } from '../core/run/offset.ts'
import { RawEvents } from '../core/sse/raw-events.ts'
import type { RunHost } from './run-host.ts'
import type { RelayListener, RelayRun, RelayStop } from './run-types.ts'

/** What is logged at once, whatever time there would be. */
const hurryBytes = 16 * 1024

/**
 * A run that is made by a server that knows nothing of runs, and passed on to its client by this gateway, which logs it beside that. Nobody waits for
 * the log: what comes is logged every `limits.runRelayMs`, or at the end of the turn when somebody reads it here.
 */
export class RelayedRun {
  readonly run = randomBytes(16).toString('base64url')
  /** Resolves with true when the run can be found, with false when the log is away: then nothing is logged. Never rejects. */
  readonly begun: Promise<boolean>
  /** When the log took something of it last; the lease counts from there. */
  loggedAt: number
  private readonly host: RunHost
  private readonly listener: RelayListener
  private epoch = 0
  private over = false
  private isLost = false
  /** The last event that is logged. */
  private logged = 0
  /** Whole blocks that have come since: bytes, and the texts of events. */
  private readonly slab = new Slab()
  private texts: string[] = []
  private events = new RawEvents()
  private counted = 0
  private isText = true
  private ending: EndEvent | FailEvent | null = null
  private waitingBytes = 0
  private timer: NodeJS.Timeout | null = null
  private collected = false
  private writing = false

  constructor(host: RunHost, { pool, format, listener }: RelayRun) {
    this.host = host
    this.listener = listener
    this.loggedAt = host.now()
    host.relays.set(this.run, this)
    this.begun = this.begin(relayLaneOf(pool, format))
  }

  /** Bytes that have come and are still to be logged. */
  get unlogged(): number {
    return this.over ? 0 : this.waitingBytes
  }

  /** Its end is, or will be, in the log. */
  get isLogged(): boolean {
    return this.epoch > 0 && !this.isLost
  }

  /** Whole blocks of the stream. */
  push(buffer: Buffer, from = 0, to = buffer.length): void {
    if (this.over) return
    this.slab.add(buffer, from, to)
    this.waitingBytes += to - from
    if (this.slab.length >= hurryBytes) this.flush()
    else if (!this.host.live.has(this.run)) this.timer ??= setTimeout(this.flush, this.host.limits.runRelayMs)
    else if (!this.collected) {
      this.collected = true
      this.host.turn.collect(this.flush)
    }
  }

  /** Nothing follows. */
  end(event: EndEvent | FailEvent): void {
    if (this.over || this.ending !== null) return
    this.ending = event
    this.flush()
  }

  /** Nothing more is logged, not even an end: whoever reads it hears of that when its lease has passed. */
  abandon(): void {
    this.isLost = true
    this.close()
  }

  /**
   * Where a reader goes on that has got all that was pushed, and how much of what comes then it has got already: blocks that clients pass
   * over belong to the event behind them.
   */
  position(): { after: string; skip: number } {
    this.divide()
    const { rest } = this.events
    const skip = this.isText ? Buffer.byteLength(rest) : rest.length
    return { after: formatOffset({ epoch: this.epoch, seq: this.counted }), skip }
  }

  /** Logs what has come, as far as nothing of it is being logged already. With the log in memory it is there when this returns. */
  readonly flush = (): void => {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.collected = false
    if (this.writing || this.over) return
    this.writing = true
    void this.writeAll()
  }

  /** Somebody has ended it. */
  stop(reason: RelayStop): void {
    if (this.over) return
    this.isLost = reason === 'lost'
    this.close()
    this.host.live.get(this.run)?.look()
    this.listener.stopped(reason)
  }

  /** Rejects as the log does. */
  async renew(): Promise<void> {
    if (this.epoch === 0 || this.over) return
    if (await this.host.logs.renew(this.run, this.host.id, this.epoch)) this.loggedAt = this.host.now()
    else this.stop('cancelled')
  }

  private async begin(lane: string): Promise<boolean> {
    const { host, run } = this
    try {
      // Together, so that they are one way to Redis and back.
      const [, claim] = await Promise.all([
        host.logs.create(run, { lane, requestJson: 'null' }),
        host.logs.claim(run, { holder: host.id, job: '', onLoss: 'fail', epoch: null }),
      ])
      if (claim.result === 'claimed') {
        this.epoch = claim.epoch
        this.loggedAt = host.now()
        host.counters.started++
        return true
      }
    } catch {
      // The log is away.
    }
    this.close()
    return false
  }

  /** Never rejects. */
  private async writeAll(): Promise<void> {
    if (this.epoch === 0 && !(await this.begun)) return
    while (!this.over) {
      const entry = this.next()
      if (entry === null) {
        // At once: what comes next is not to find a writer that has finished.
        this.writing = false
        return
      }
      const { raw, events, terminal, bytes } = entry
      const { host } = this
      const request = { holder: host.id, entry: raw, effects: false, terminal }
      const answer = await host.insist(
        () => host.logs.append(this.run, request),
        () => !this.over,
      )
      if (answer === null || this.over) return
      if (answer.result === 'appended' || answer.result === 'duplicate')
        this.taken(raw, events, terminal, bytes)
      else if (answer.result === 'full') await this.full()
      else this.stop(answer.result === 'ended' ? 'cancelled' : 'lost')
    }
  }

  private taken(
    { epoch, first, count }: RawEntry,
    events: readonly LogEvent[],
    terminal: Outcome | null,
    bytes: number,
  ): void {
    const { host } = this
    this.logged = first + count - 1
    this.loggedAt = host.now()
    this.waitingBytes -= bytes
    host.counters.tokens += terminal === null ? count : count - 1
    host.live.get(this.run)?.push({ epoch, first, events })
    if (terminal === null) this.listener.logged()
    else {
      host.counters.ended[terminal]++
      this.close()
    }
  }

  private async full(): Promise<void> {
    const { host } = this
    const text = `the log of the run would be longer than ${host.limits.runLogBytes} bytes`
    await host.insist(
      () => host.logs.finish(this.run, failEvent('TOO_LARGE', text, false), this.epoch),
      () => !this.over,
    )
    host.counters.ended.failed++
    this.stop('full')
  }

  /** As much of what waits as one entry takes. */
  private next(): { raw: RawEntry; events: LogEvent[]; terminal: Outcome | null; bytes: number } | null {
    this.divide()
    const { texts, ending } = this
    const kind = this.isText ? rawKind : rawBytesKind
    const most = this.host.limits.runEntryBytes
    const events: LogEvent[] = []
    const parts: string[] = []
    let [bytes, size, taken] = [0, 0, 0]
    while (taken < texts.length && (size === 0 || size + texts[taken]!.length <= most)) {
      const data = texts[taken++]!
      events.push({ type: 'delta', part: 0, kind, data } satisfies DeltaEvent)
      parts.push(`{"kind":"${kind}","data":${JSON.stringify(data)}}`)
      bytes += this.isText ? Buffer.byteLength(data) : data.length
      size += data.length
    }
    this.texts = taken === texts.length ? [] : texts.slice(taken)
    let terminal: Outcome | null = null
    if (ending !== null && this.texts.length === 0) {
      events.push(ending)
      parts.push(encodeEvent(ending))
      terminal = outcomeOf(ending)
    }
    if (events.length === 0) return null
    const raw = {
      epoch: this.epoch,
      first: this.logged + 1,
      count: events.length,
      json: `[${parts.join(',')}]`,
    }
    return { raw, events, terminal, bytes }
  }

  private divide(): void {
    if (this.slab.length > 0) {
      const bytes = this.slab.take()
      if (this.isText && !isUtf8(bytes)) this.beBytes()
      this.add(this.events.push(this.isText ? bytes.toString() : bytes.toString('latin1')))
    }
    // Nothing comes that it could go with.
    if (this.ending !== null && this.events.rest !== '') {
      this.add([this.events.rest])
      this.events = new RawEvents()
    }
  }

  private add(texts: readonly string[]): void {
    for (const text of texts) this.texts.push(text)
    this.counted += texts.length
  }

  /** Servers that send what is no UTF-8 are passed on as they are. */
  private beBytes(): void {
    const asBytes = (text: string) => Buffer.from(text).toString('latin1')
    this.isText = false
    this.texts = this.texts.map(asBytes)
    const { rest } = this.events
    this.events = new RawEvents()
    this.events.push(asBytes(rest))
  }

  private close(): void {
    this.over = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.slab.free()
    this.texts = []
    this.host.relays.delete(this.run)
  }
}

const slabBytes = 2 * 1024

/**
 * Collects bytes by copying them: buffers that wait for longer than a turn cost the collection of garbage more than their copies do.
 */
class Slab {
  length = 0
  private bytes: Buffer | null = null

  add(buffer: Buffer, from: number, to: number): void {
    const end = this.length + to - from
    if (this.bytes === null || end > this.bytes.length) this.grow(end)
    buffer.copy(this.bytes!, this.length, from, to)
    this.length = end
  }

  /** Valid until something is added. */
  take(): Buffer {
    const taken = this.bytes!.subarray(0, this.length)
    this.length = 0
    if (this.bytes!.length > hurryBytes) this.bytes = null
    return taken
  }

  free(): void {
    this.length = 0
    this.bytes = null
  }

  private grow(least: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(least, slabBytes, 2 * this.length))
    if (this.length > 0) this.bytes!.copy(grown, 0, 0, this.length)
    this.bytes = grown
  }
}
