import { formatOf, type RunPage } from '../cluster/run-log.ts'
import { Cursor, type Step } from '../core/run/cursor.ts'
import { openEntry, type RawEntry, sizeOf } from '../core/run/entry.ts'
import type { FailEvent, PlacedEvent, RunEvent } from '../core/run/events.ts'
import { snapshotOf } from '../core/run/merge.ts'
import { formatOffset, type Offset, origin } from '../core/run/offset.ts'
import type { LiveRun } from './live-run.ts'
import { SharedBatch } from './run-batch.ts'
import type { ReaderOptions, RunBatch, RunReader, RunSink } from './run-types.ts'

/** What a reader does when a page is read. */
type Next = 'more' | 'done' | 'later'

const laterMs = 50
/**
 * Entries of a page, if they are as large as they may be, as long as the reader has taken all that it was given: most of what one waits for
 * that is behind is the way to Redis and back.
 */
const pageEntriesMost = 12

/** One reader of a run: a place in it and a sink. While the sink takes nothing, the place is all that is kept. */
export class Reader implements RunReader {
  readonly cursor: Cursor
  private readonly live: LiveRun
  private readonly sink: RunSink
  private readonly coalesceMs: number
  private readonly snapshot: boolean
  private readonly onEnd: (left: boolean) => void
  private blocked = false
  private pageEntries = pageEntriesMost
  /** The log has more than was read, whether anybody has said so or not. */
  private unread = false
  /** The first page is read by who opens the reader. */
  private reading = true
  private begun = false
  private closed = false
  private sentAt: number
  private gaveAt = Number.NEGATIVE_INFINITY

  constructor(
    live: LiveRun,
    after: Offset | null,
    sink: RunSink,
    options: ReaderOptions,
    onEnd: (left: boolean) => void,
  ) {
    this.live = live
    this.cursor = new Cursor(after)
    this.sink = sink
    this.coalesceMs = options.coalesceMs ?? live.host.limits.runCoalesceMs
    this.snapshot = options.snapshot === true && after === null
    this.onEnd = onEnd
    this.sentAt = live.host.now()
  }

  get isClosed(): boolean {
    return this.closed
  }

  get merges(): boolean {
    return this.coalesceMs > 0
  }

  /** True when it may be given something now. */
  wants(now: number): boolean {
    if (this.blocked || this.reading || this.closed || !this.live.isBehind(this.cursor)) return false
    if (this.coalesceMs === 0 || now - this.gaveAt >= this.coalesceMs) return true
    this.live.scheduleAt(this.gaveAt + this.coalesceMs)
    return false
  }

  /** What it reads next. Null: there is no such run. */
  read(): Promise<RunPage | null> {
    const { host, run } = this.live
    return host.pace.reads(() =>
      host.logs.read(run, this.cursor.place, this.pageEntries * host.limits.runEntryBytes),
    )
  }

  /** With the first page, which was read to find out what the verdict is: the events of its first piece, and the other pieces. */
  begin(after: Offset, page: RunPage, events: PlacedEvent[], others: readonly RawEntry[][]): void {
    this.begun = true
    const format = formatOf(page.lane)
    const info: RunEvent = {
      type: 'run',
      run: this.live.run,
      status: page.status,
      ...(format === null ? {} : { format }),
    }
    const placed = { offset: formatOffset(after), event: info }
    const isAll = others.length === 0 && !page.more
    const snap = this.snapshot && isAll ? snapshotOf(events) : null
    this.write(new SharedBatch(this.live.run, [placed, ...(snap === null ? joined(events) : [snap])]))
    const next = isAll ? 'done' : this.take(page, others)
    this.reading = false
    this.goOn(next)
  }

  /** The events of the newest entries. */
  give(batch: RunBatch | null, after: Cursor): void {
    this.cursor.moveTo(after)
    this.gaveAt = this.live.host.now()
    if (batch !== null) this.write(batch)
  }

  /** Reads the log from the reader's place on. Never rejects. */
  catchUp(): void {
    if (this.reading || this.closed) return
    this.reading = true
    void this.readPage()
      .catch(() => 'later' as const)
      .then((next) => {
        this.reading = false
        this.goOn(next)
      })
  }

  drained(): void {
    if (!this.blocked || this.closed) return
    this.blocked = false
    if (this.unread) this.catchUp()
    else this.live.schedule()
  }

  close(): void {
    if (this.closed) return
    this.end(true)
  }

  /** The gateway stops. */
  away(): void {
    if (this.closed) return
    this.end()
    if (this.begun) this.sink.close('away')
  }

  /** What is in no log, and ends it. Who is still opening the reader finds it out by itself. */
  fail(event: FailEvent): void {
    if (!this.closed && this.begun) this.writeLast(event)
  }

  tick(now: number, alive: boolean): void {
    if (!this.begun || this.closed || this.blocked) return
    if (now - this.sentAt < this.live.host.limits.runHeartbeatMs) return
    if (!alive) return
    this.sentAt = now
    this.sink.heartbeat()
  }

  private async readPage(): Promise<Next> {
    const page = await this.read()
    if (this.closed) return 'done'
    if (page === null) {
      this.live.missing()
      return 'later'
    }
    this.live.saw(page)
    this.pageEntries = pageEntriesMost
    const next = this.take(page, pieces(page.entries, this.live.host.limits.runEntryBytes))
    // What was told is not there yet, or not any more.
    return next === 'done' && page.entries.length === 0 && this.live.isBehind(this.cursor) ? 'later' : next
  }

  private take(page: RunPage, left: readonly RawEntry[][]): Next {
    for (const piece of left) {
      // A reader that is slow keeps nothing of a page: what is left of it is read again.
      if (this.blocked || this.closed) return 'more'
      const events: PlacedEvent[] = []
      const step = takeEntries(piece, this.cursor, events)
      this.writeSome(events)
      if (step === 'taken') continue
      if (this.closed) return 'done'
      if (step === 'reset') return this.reset()
      this.writeLast({ type: 'gap', oldest: formatOffset(page.start) })
      return 'done'
    }
    return page.more ? 'more' : 'done'
  }

  private writeSome(events: PlacedEvent[]): void {
    if (events.length > 0) this.write(new SharedBatch(this.live.run, joined(events)))
  }

  /** It has more than is valid: everything anew. */
  private reset(): Next {
    this.cursor.rewind()
    this.write(new SharedBatch(this.live.run, [restart()]))
    return 'more'
  }

  private goOn(next: Next): void {
    if (this.closed) return
    this.unread = next === 'more'
    if (this.blocked) return
    if (next === 'more') this.catchUp()
    else if (next === 'later') this.live.scheduleAt(this.live.host.now() + laterMs)
    else if (this.live.isBehind(this.cursor)) this.live.schedule()
  }

  private write(batch: RunBatch): void {
    this.sentAt = this.live.host.now()
    const goesOn = this.sink.write(batch)
    if (this.cursor.done) {
      this.end()
      this.sink.close('ended')
    } else if (!goesOn) {
      this.blocked = true
      this.pageEntries = 1
    }
  }

  private writeLast(event: RunEvent): void {
    this.sink.write(new SharedBatch(this.live.run, [{ offset: formatOffset(this.cursor.place), event }]))
    this.end()
    this.sink.close('ended')
  }

  private end(left = false): void {
    this.closed = true
    this.live.remove(this)
    this.onEnd(left)
  }
}

/** Entries as a reader is given them: so large together, or one that is larger. */
export function pieces(entries: readonly RawEntry[], bytesMost: number): RawEntry[][] {
  const found: RawEntry[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const entry of entries) {
    bytes += sizeOf(entry)
    if (bytes <= bytesMost) found.at(-1)!.push(entry)
    else {
      found.push([entry])
      bytes = sizeOf(entry)
    }
  }
  return found
}

/** The first step that is none. */
export function takeEntries(entries: readonly RawEntry[], cursor: Cursor, events: PlacedEvent[]): Step {
  for (const entry of entries) {
    const step = cursor.take(openEntry(entry), events)
    if (step === 'hole' || step === 'reset') return step
  }
  return 'taken'
}

/** For a reader whose offset is not valid any more. */
export function restart(): PlacedEvent {
  const base = formatOffset(origin)
  return { offset: base, event: { type: 'fence', epoch: 0, resume: 'restart', base } }
}

function joined(events: PlacedEvent[]): readonly PlacedEvent[] {
  return SharedBatch.of('', events, true).events
}
