import { isUtf8 } from 'node:buffer'
import { relayLaneOf } from '../cluster/run-log.ts'
import { failEvent } from '../core/run/entry.ts'
import type { EndEvent, FailEvent } from '../core/run/events.ts'
import { type Outcome, outcomeOf } from '../core/run/log-state.ts'
import { formatOffset } from '../core/run/offset.ts'
import { RelayTape } from './relay-tape.ts'
import { RelayedEntry } from './relayed-entry.ts'
import type { RunHost } from './run-host.ts'
import { newRunId } from './run-owner.ts'
import type { RelayListener, RelayRun, RelayStop } from './run-types.ts'

/** What is logged at once, whatever time there would be. */
const hurryBytes = 16 * 1024
/** A log in this memory is brought up to date for whoever reads it, and is as lost as what is not logged when the process dies. */
const memoryMs = 1_000

/**
 * A run that is made by a server that knows nothing of runs, and passed on to its client by this gateway, which logs it beside that. Nobody waits for
 * the log: what comes is logged every `limits.runRelayMs` (once a second where the log is in memory), or at the end of the turn when somebody reads it here.
 */
export class RelayedRun {
  readonly run: string
  /** Resolves with true when the run can be found, with false when the log is away: then nothing is logged. Never rejects. */
  readonly begun: Promise<boolean>
  /** When the log took something of it last; the lease counts from there. */
  loggedAt: number
  /** Somebody reads it at this gateway. */
  isRead: boolean
  private readonly host: RunHost
  private readonly listener: RelayListener
  private readonly isRemote: boolean
  private readonly everyMs: number
  private epoch = 0
  private over = false
  private isLost = false
  /** The last event that is logged, or is being logged. */
  private taken = 0
  /** Whole blocks that have come since. */
  private readonly tape = new RelayTape()
  private isText = true
  private ending: EndEvent | FailEvent | null = null
  private waitingBytes = 0
  private timer: NodeJS.Timeout | null = null
  private collected = false
  private writing = false

  constructor(host: RunHost, { pool, format, listener, owner = null }: RelayRun) {
    this.run = newRunId(owner)
    this.host = host
    this.listener = listener
    this.isRemote = host.logs.isRemote
    this.everyMs = this.isRemote ? host.limits.runRelayMs : memoryMs
    this.isRead = host.live.has(this.run)
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
    this.tape.add(buffer, from, to)
    this.waitingBytes += to - from
    if (this.tape.length >= hurryBytes) this.flush()
    else if (this.isRead) this.flushSoon()
    else this.timer ??= setTimeout(this.flush, this.everyMs)
  }

  /** Where the log is in memory: the newest of what was logged, the last piece as a whole; otherwise nothing. */
  newest(): Buffer[] {
    return this.isRemote ? [] : this.tape.newest()
  }

  /** Whether what is pushed now can be had from `newest`. */
  get keeps(): boolean {
    return !this.over && !this.isRemote
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
    const seq = this.taken + this.tape.count()
    return { after: formatOffset({ epoch: this.epoch, seq }), skip: this.tape.restBytes }
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

  private flushSoon(): void {
    if (this.collected) return
    this.collected = true
    this.host.turn.collect(this.flush)
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
      const next = this.next()
      if (next === null) {
        // At once: what comes next is not to find a writer that has finished.
        this.writing = false
        return
      }
      const { entry, terminal } = next
      const { host } = this
      const request = { holder: host.id, entry, effects: false, terminal }
      const answer = await host.insist(
        () => host.logs.append(this.run, request),
        () => !this.over,
      )
      if (answer === null || this.over) return
      if (answer.result === 'appended' || answer.result === 'duplicate') this.appended(next)
      else if (answer.result === 'full') await this.full()
      else this.stop(answer.result === 'ended' ? 'cancelled' : 'lost')
    }
  }

  private appended({ entry, terminal, bytes }: Next): void {
    const { host } = this
    if (this.isRemote) this.tape.reuse()
    this.loggedAt = host.now()
    this.waitingBytes -= bytes
    host.counters.tokens += terminal === null ? entry.count : entry.count - 1
    host.live.get(this.run)?.push(entry.opened())
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
  private next(): Next | null {
    const { tape, ending, epoch } = this
    if (ending !== null) tape.close()
    const { count, bytes } = tape.take(this.host.limits.runEntryBytes)
    // Servers that send what is no UTF-8 are passed on as they are.
    this.isText &&= bytes.length === 0 || isUtf8(bytes)
    const last = tape.length === 0 ? ending : null
    const all = count + (last === null ? 0 : 1)
    if (all === 0) return null
    const entry = new RelayedEntry(epoch, this.taken + 1, all, bytes, this.isText, last)
    this.taken += all
    return { entry, terminal: last === null ? null : outcomeOf(last), bytes: bytes.length }
  }

  private close(): void {
    this.over = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    if (this.isRemote) this.tape.free()
    this.host.relays.delete(this.run)
  }
}

interface Next {
  readonly entry: RelayedEntry
  readonly terminal: Outcome | null
  readonly bytes: number
}
