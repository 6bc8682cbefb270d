import { formatOf, type RunPage } from '../cluster/run-log.ts'
import type { Cursor } from '../core/run/cursor.ts'
import { type Entry, failEvent, lastOf, openEntry, type RawEntry } from '../core/run/entry.ts'
import type { PlacedEvent } from '../core/run/events.ts'
import { compareOffsets, type Offset, origin } from '../core/run/offset.ts'
import { SharedBatch } from './run-batch.ts'
import type { RunHost } from './run-host.ts'
import type { Reader } from './run-reader.ts'

/** What is kept of the newest events, for readers that are nearly there. */
const tailBytes = 64 * 1024
const entryOverheadBytes = 64

/**
 * A run that is read at this gateway: its newest entries and its readers. Entries come from the producer of this gateway, or over Redis as
 * hints; the log is the truth, and what is missing is read from it.
 */
export class LiveRun {
  readonly run: string
  readonly host: RunHost
  readonly readers = new Set<Reader>()
  private tail: { entry: Entry; bytes: number }[] = []
  private tailSize = 0
  /** Where the newest known entry ends. */
  private known: Offset = origin
  private scheduled = false
  private following: Promise<void> | null = null
  private looking = false
  private lookAgain = false
  private heardAt: number
  private aliveUntil: number
  private missingSince: number | null = null
  private timer: { at: number; handle: NodeJS.Timeout } | null = null
  private closed = false

  constructor(host: RunHost, run: string) {
    this.host = host
    this.run = run
    this.heardAt = host.now()
    this.aliveUntil = host.now() + host.limits.runLeaseMs
    this.tellRelay(true)
  }

  /** Resolves when what is appended from now on comes here. What was appended before is in the log, for the caller to read. */
  async ready(): Promise<void> {
    const { expected } = this.host
    if (this.heldHere === undefined && !expected.has(this.run)) await this.follow()
  }

  /** Whether or not it was held here, it is not now. */
  settle(): void {
    if (this.heldHere === undefined && this.following === null) this.disowned()
  }

  /** The run is this gateway's now: its entries need not come over Redis. */
  owned(): void {
    if (this.following === null) return
    this.following = null
    void this.host.logs.unfollow(this.run)
  }

  /** The run is another gateway's now. */
  disowned(): void {
    // What was appended while nobody listened here is in the log.
    void this.follow().then(() => this.look())
  }

  /** An entry was appended. */
  push(entry: Entry): void {
    this.heardAt = this.host.now()
    this.missingSince = null
    const last = lastOf(entry)
    if (compareOffsets(last, this.known) <= 0) return
    const isNext =
      entry.first === 0 || (entry.epoch === this.known.epoch && entry.first <= this.known.seq + 1)
    // Readers see the hole by themselves and read the log.
    if (!isNext) this.clearTail()
    this.known = last
    const bytes = sizeOf(entry)
    this.tail.push({ entry, bytes })
    this.tailSize += bytes
    while (this.tailSize > tailBytes && this.tail.length > 1) this.tailSize -= this.tail.shift()!.bytes
    this.schedule()
  }

  /** Gives readers what they lack, at the end of this turn. */
  schedule(): void {
    if (this.scheduled || this.closed) return
    this.scheduled = true
    this.host.turn.collect(() => {
      this.scheduled = false
      this.pump()
    })
  }

  /** Gives readers what they lack at a later time, if not before. */
  scheduleAt(at: number): void {
    if (this.timer !== null && this.timer.at <= at) return
    if (this.timer !== null) clearTimeout(this.timer.handle)
    const handle = setTimeout(
      () => {
        this.timer = null
        this.schedule()
      },
      Math.max(0, at - this.host.now()),
    )
    this.timer = { at, handle }
  }

  /** Whether entries that this reader lacks are at hand, and it lacks nothing before them. */
  has({ place }: Cursor): boolean {
    const oldest = this.tail[0]?.entry
    if (oldest === undefined) return false
    // A fence says by itself what has to be before it.
    if (oldest.first === 0) return true
    return place.epoch === oldest.epoch && place.seq >= oldest.first - 1
  }

  isBehind({ place }: Cursor): boolean {
    return compareOffsets(place, this.known) < 0
  }

  /** What the reader gets of the newest entries; null: only the log can say. Moves the cursor. */
  collect(cursor: Cursor): PlacedEvent[] | null {
    const events: PlacedEvent[] = []
    for (let i = this.firstBehind(cursor.place); i < this.tail.length; i++) {
      const step = cursor.take(this.tail[i]!.entry, events)
      if (step === 'hole' || step === 'reset') return null
    }
    return events
  }

  /** A page of the log that was read for one of the readers. */
  saw(page: RunPage): void {
    const now = this.host.now()
    this.heardAt = now
    this.missingSince = null
    this.aliveUntil =
      page.status === 'running' ? now + page.leaseLeftMs : now + this.host.limits.runSilenceMs * 3
    if (page.status === 'ended') this.aliveUntil = now
  }

  /** The log goes up to there, as one of the readers has seen. All of them read it up to there, and only what is behind it is waited for. */
  reached(head: Offset): void {
    if (compareOffsets(head, this.known) <= 0) return
    this.known = head
    this.clearTail()
    this.schedule()
  }

  /** The gateway learns here first what happens in the run. */
  private get heldHere(): { readonly loggedAt: number } | undefined {
    return this.host.owned.get(this.run) ?? this.host.relays.get(this.run)
  }

  get alive(): boolean {
    const held = this.heldHere
    if (held !== undefined) return this.host.now() - held.loggedAt < this.host.limits.runLeaseMs
    return this.host.now() < this.aliveUntil
  }

  /** Once a second. */
  tick(now: number): void {
    for (const reader of this.readers) reader.tick(now, this.alive)
    if (this.heldHere !== undefined) return
    if (!this.host.expected.has(this.run)) this.settle()
    if (now - this.heardAt >= this.host.limits.runSilenceMs) this.look()
  }

  /** Reads what is new in the log, in case that nobody said so. Never rejects. */
  look(): void {
    if (this.closed) return
    if (this.looking) {
      this.lookAgain = true
      return
    }
    this.looking = true
    void this.readNew()
      .catch(() => {})
      .finally(() => {
        this.looking = false
        if (!this.lookAgain) return
        this.lookAgain = false
        this.look()
      })
  }

  add(reader: Reader): void {
    this.readers.add(reader)
  }

  remove(reader: Reader): void {
    this.readers.delete(reader)
    if (this.readers.size === 0) this.close()
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    if (this.timer !== null) clearTimeout(this.timer.handle)
    if (this.host.live.get(this.run) === this) {
      this.host.live.delete(this.run)
      this.tellRelay(false)
    }
    if (this.following !== null) void this.host.logs.unfollow(this.run)
    this.clearTail()
  }

  /** The log says that there is no such run. Its holder may be making it anew. */
  missing(): void {
    const now = this.host.now()
    this.heardAt = now
    this.missingSince ??= now
    if (now - this.missingSince < this.host.limits.runLeaseMs) return
    const event = failEvent('LOG_LOST', 'the log of this run is lost', true)
    for (const reader of [...this.readers]) reader.fail(event)
  }

  private tellRelay(isRead: boolean): void {
    const relayed = this.host.relays.get(this.run)
    if (relayed !== undefined) relayed.isRead = isRead
  }

  private async follow(): Promise<void> {
    if (this.closed) return
    this.following ??= this.host.logs.follow(this.run, (raw) => this.heard(raw))
    await this.following
  }

  private heard(raw: RawEntry): void {
    const last = { epoch: raw.epoch, seq: raw.first + raw.count - 1 }
    if (compareOffsets(last, this.known) <= 0) return
    try {
      this.push(openEntry(raw))
    } catch {
      // Not written by one of us: the log knows.
      this.look()
    }
  }

  private async readNew(): Promise<void> {
    const page = await this.host.logs.read(this.run, this.known, this.host.limits.runEntryBytes)
    if (this.closed) return
    if (page === null) {
      this.missing()
      return
    }
    this.saw(page)
    for (const raw of page.entries) this.push(openEntry(raw))
    const { runQueueMs, runSilenceMs } = this.host.limits
    // What a gateway passed on nobody else can go on with.
    const lapsedMs = formatOf(page.lane) === null ? runQueueMs : 0
    // Whoever should have seen to it is gone.
    if (page.status === 'queued' && page.queuedMs > runQueueMs + 2 * runSilenceMs) await this.giveUp('queued')
    else if (page.status === 'running' && page.leaseLeftMs < -lapsedMs) await this.giveUp('lapsed')
    if (page.more) this.lookAgain = true
  }

  private async giveUp(when: 'queued' | 'lapsed'): Promise<void> {
    const event =
      when === 'queued'
        ? failEvent('QUEUED_TOO_LONG', 'no producer took the run in time', true)
        : failEvent('PRODUCER_LOST', 'the producer of this run was lost, and no other took it in time', true)
    await this.host.logs.finish(this.run, event, when)
    this.lookAgain = true
  }

  /** Readers at the same place get the same batch. */
  private pump(): void {
    const now = this.host.now()
    const batches = new Map<string, { batch: SharedBatch | null; after: Cursor } | null>()
    for (const reader of [...this.readers]) {
      if (!reader.wants(now)) continue
      const { cursor } = reader
      if (!this.has(cursor)) {
        reader.catchUp()
        continue
      }
      const key = `${cursor.key} ${reader.merges}`
      let made = batches.get(key)
      if (made === undefined) {
        made = this.make(cursor, reader.merges)
        batches.set(key, made)
      }
      if (made === null) reader.catchUp()
      else reader.give(made.batch, made.after)
    }
  }

  private make(cursor: Cursor, merges: boolean): { batch: SharedBatch | null; after: Cursor } | null {
    const after = cursor.copy()
    const events = this.collect(after)
    if (events === null) return null
    return { batch: events.length === 0 ? null : SharedBatch.of(this.run, events, merges), after }
  }

  private firstBehind(place: Offset): number {
    // Mostly the last one or two.
    let at = this.tail.length
    while (at > 0 && compareOffsets(lastOf(this.tail[at - 1]!.entry), place) > 0) at--
    return at
  }

  private clearTail(): void {
    this.tail = []
    this.tailSize = 0
  }
}

function sizeOf({ events }: Entry): number {
  let bytes = entryOverheadBytes
  for (const event of events) {
    if (event.type === 'delta' && typeof event.data === 'string')
      bytes += event.data.length + entryOverheadBytes
    else bytes += JSON.stringify(event).length
  }
  return bytes
}
