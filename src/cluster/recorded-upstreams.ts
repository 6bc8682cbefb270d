import { isDeepStrictEqual } from 'node:util'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Readiness } from './bus.ts'
import { Repeated } from './repeated.ts'
import {
  parseSetting,
  parseStoredUpstream,
  serializeSetting,
  serializeUpstream,
  settingField,
} from './upstream-entry.ts'
import {
  type RecordsView,
  type SharedUpstreams,
  type StoredUpstream,
  type StoredUpstreams,
  type UpstreamRecords,
  type UpstreamSettings,
  type UpstreamWish,
  upstreamsClosed,
  upstreamsMax,
} from './upstreams.ts'

export interface RecordedUpstreamsOptions {
  records: UpstreamRecords
  /** What others have written without a word is found within this time. */
  refreshMs: number
  onProblem: (problem: EvenkeelError) => void
  /** Unix milliseconds; default `Date.now`. */
  wallNow?: () => number
}

type Listener = (content: StoredUpstreams) => void

/** A setting that the store has not confirmed yet. */
interface Wish {
  /** null deletes. */
  readonly json: string | null
  written: boolean
}

const kinds = ['weight', 'drain'] as const
const readSpacingMs = 20
/** What the store did not take is tried again after this time. */
const retryMs = 500

/** The rules for shared upstreams, the same over every store. */
export class RecordedUpstreams implements SharedUpstreams {
  private readonly options: RecordedUpstreamsOptions
  private readonly records: UpstreamRecords
  private readonly wallNow: () => number
  private readonly listeners = new Set<Listener>()
  private readonly reading: Repeated
  private readonly writing: Repeated
  private stored: RecordsView = { digest: '', lineage: '', entries: [], settings: [], left: 0 }
  /** By field. They lie on top of what is stored until a read that began after their write. */
  private readonly wishes = new Map<string, Wish>()
  /** Entries that the store has lost, by id. */
  private readonly owed = new Map<string, string>()
  private content: StoredUpstreams = { upstreams: new Map(), settings: new Map() }
  /** What was complained about, so that each is reported once. */
  private junk = new Map<string, string>()
  private problem = ''
  private stopListening: (() => void) | null = null
  private readonly firstRead = Promise.withResolvers<void>()
  private closed = false

  constructor(options: RecordedUpstreamsOptions) {
    this.options = options
    this.records = options.records
    this.wallNow = options.wallNow ?? (() => Date.now())
    this.reading = new Repeated(() => this.read(), readSpacingMs)
    this.writing = new Repeated(() => this.write(), 0)
  }

  async add(upstream: StoredUpstream): Promise<void> {
    if (this.closed) throw upstreamsClosed()
    const { id } = upstream
    const result = await this.records.add(id, serializeUpstream(upstream), true)
    if (result === 'taken') throw new EvenkeelError('CONFLICT', `upstream id ${id} is taken`)
    if (result === 'full')
      throw new EvenkeelError('TOO_MANY_REQUESTS', `there are ${upstreamsMax} upstreams already; remove some`)
    await this.changed(id)
  }

  async remove(id: string): Promise<boolean> {
    if (this.closed) throw upstreamsClosed()
    const removed = await this.records.remove(id)
    await this.changed(id)
    return removed
  }

  set(id: string, wish: UpstreamWish): void {
    if (this.closed) return
    for (const kind of kinds) {
      const value = wish[kind]
      if (value === undefined) continue
      const json = value === null ? null : serializeSetting(kind, value, this.wallNow())
      this.wishes.set(settingField(kind, id), { json, written: false })
    }
    this.apply()
    this.writing.soon()
  }

  watch(listener: Listener): () => void {
    // A copy of its own, so that one function may watch twice.
    const own: Listener = (content) => listener(content)
    let ended = false
    queueMicrotask(() => {
      if (ended || this.closed) return
      this.listeners.add(own)
      own(this.content)
      this.stopListening ??= this.records.listen(() => {
        this.reading.soon()
        if (this.owesSomething) this.writing.soon()
      })
      this.reading.soon()
    })
    return () => {
      ended = true
      this.listeners.delete(own)
    }
  }

  settled(): Promise<void> {
    return this.firstRead.promise
  }

  status(): Readiness {
    return this.records.status()
  }

  async close(): Promise<void> {
    this.closed = true
    this.stopListening?.()
    this.reading.stop()
    this.writing.stop()
    this.listeners.clear()
    this.firstRead.resolve()
  }

  private get owesSomething(): boolean {
    return this.owed.size > 0 || [...this.wishes.values()].some(({ written }) => !written)
  }

  /** What was wished of an earlier upstream of this id is gone with its settings in the store. */
  private async changed(id: string): Promise<void> {
    for (const kind of kinds) this.wishes.delete(settingField(kind, id))
    this.owed.delete(id)
    await this.readNow()
  }

  private async write(): Promise<void> {
    try {
      for (const [id, json] of [...this.owed]) {
        // Its settings may be there already.
        await this.records.add(id, json, false)
        this.owed.delete(id)
      }
      for (const [field, wish] of [...this.wishes]) {
        if (wish.written) continue
        await this.records.set(field, wish.json)
        wish.written = true
      }
    } catch (error) {
      this.reportUnlessAway(error)
      this.writing.within(retryMs)
    }
    this.reading.soon()
  }

  /** Keeps the content fresh; it is not called before somebody watches or wishes. */
  private async read(): Promise<void> {
    this.reading.within(this.options.refreshMs)
    await this.readNow()
    this.firstRead.resolve()
  }

  private async readNow(): Promise<void> {
    const confirmed = [...this.wishes].filter(([, { written }]) => written)
    let view: RecordsView | null
    try {
      view = await this.records.read(this.stored.digest)
    } catch (error) {
      this.reportUnlessAway(error)
      return
    }
    if (this.closed) return
    if (view !== null && isLost(this.stored, view)) this.owe(view)
    if (view !== null) this.stored = view
    for (const [field, wish] of confirmed) {
      // One that the store has lost since then is to be written again.
      if (wish.written && this.wishes.get(field) === wish) this.wishes.delete(field)
    }
    this.report(
      this.stored.left === 0
        ? ''
        : `${upstreamsMax} upstreams are used, ${this.stored.left} more are ignored`,
    )
    this.apply()
  }

  /** What is known here is what the store should have. */
  private owe(view: RecordsView): void {
    const present = new Set([...view.entries, ...view.settings].map(([key]) => key))
    for (const [id, json] of this.stored.entries) if (!present.has(id)) this.owed.set(id, json)
    for (const [field, json] of this.stored.settings) {
      if (!present.has(field) && !this.wishes.has(field)) this.wishes.set(field, { json, written: false })
    }
    for (const wish of this.wishes.values()) wish.written = false
    this.writing.soon()
  }

  private apply(): void {
    const content = this.parse()
    if (isDeepStrictEqual(content, this.content)) return
    this.content = content
    for (const listener of [...this.listeners]) listener(content)
  }

  private parse(): StoredUpstreams {
    const junk = new Map<string, string>()
    const upstreams = new Map<string, StoredUpstream>()
    for (const [id, json] of new Map([...this.stored.entries, ...this.owed])) {
      const { value, complaint } = parseStoredUpstream(id, json)
      if (value !== null) upstreams.set(id, value)
      else this.complain(junk, `upstream ${shown(id)}`, json, complaint)
    }
    const fields = new Map<string, string | null>(this.stored.settings)
    for (const [field, { json }] of this.wishes) fields.set(field, json)
    const settings = new Map<string, UpstreamSettings>()
    for (const [field, json] of fields) {
      if (json === null) continue
      const { value, complaint } = parseSetting(field, json)
      if (value !== null) settings.set(value.id, { ...settings.get(value.id), ...value.setting })
      else this.complain(junk, `setting ${shown(field)} of an upstream`, json, complaint)
    }
    this.junk = junk
    return { upstreams, settings }
  }

  private complain(junk: Map<string, string>, what: string, json: string, complaint: string): void {
    junk.set(what, json)
    if (this.junk.get(what) === json) return
    this.options.onProblem(new EvenkeelError('RECORD_INVALID', `${what} is ignored: ${complaint}`))
  }

  private reportUnlessAway(error: unknown): void {
    if (!(error instanceof EvenkeelError)) throw error
    // The store's own status says why it is away.
    if (error.code !== 'NOT_READY') this.report(error.message)
  }

  /** Each problem once while it lasts. */
  private report(message: string): void {
    if (message === this.problem) return
    this.problem = message
    if (message !== '') this.options.onProblem(new EvenkeelError('RECORD_INVALID', message))
  }
}

/** Somebody may have written to the empty store already: it is not the absence of data that tells. */
function isLost(before: RecordsView, now: RecordsView): boolean {
  return before.lineage !== '' && before.lineage !== now.lineage
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80))
}
