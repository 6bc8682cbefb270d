import { randomBytes } from 'node:crypto'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Readiness } from './bus.ts'
import { type Entry, entryKey, serializeEntry } from './entry.ts'
import type { Registry, RegistryListener, RegistryStore } from './registry.ts'
import { RegistryView } from './registry-view.ts'
import { Repeated } from './repeated.ts'

export interface LeasedRegistryOptions {
  store: RegistryStore
  /** Default 2 s. */
  leaseRefreshMs: number
  /** Default 6 s; at least twice `leaseRefreshMs`, or a single late renewal ends the lease. */
  leaseMs: number
  now: () => number
  /** Something that an operator should know and that is nobody's call to fail: a junk entry, an id taken by another. */
  onProblem: (problem: EvenkeelError) => void
}

interface Announced {
  readonly key: string
  readonly instance: string
  readonly json: string
  /** Reported already. */
  conflict: boolean
}

const leaderNamePattern = /^[A-Za-z0-9._:-]{1,64}$/
/** Bursts of changes are read together. */
const readSpacingMs = 50
/** A lease that ends at a time ends a moment later by the store's clock. */
const lapseMarginMs = 5

/** The registry's rules, the same over every store. */
export class LeasedRegistry implements Registry {
  private readonly options: LeasedRegistryOptions
  private readonly store: RegistryStore
  private readonly owner = randomBytes(12).toString('base64url')
  private readonly announced = new Map<string, Announced>()
  private readonly leads = new Set<string>()
  private readonly listeners = new Set<RegistryListener>()
  private readonly view: RegistryView
  private readonly renewing: Repeated
  private readonly reading: Repeated
  private readonly stopListening: () => void
  private watched = false
  private closed = false

  constructor(options: LeasedRegistryOptions) {
    this.options = options
    this.store = options.store
    this.view = new RegistryView(options.leaseMs, options.onProblem)
    this.renewing = new Repeated(() => this.renew(), 0)
    this.reading = new Repeated(() => this.read(), readSpacingMs)
    this.stopListening = this.store.listen((event) => {
      if (event === 'restored') {
        this.view.distrust(options.now())
        if (this.announced.size > 0) this.renewing.soon()
      }
      if (this.watched) this.reading.soon()
    })
  }

  async announce(entry: Entry): Promise<boolean> {
    if (this.closed) throw closedError()
    const json = serializeEntry(entry)
    const key = entryKey(entry)
    const before = this.announced.get(key)
    const announced = { key, instance: entry.instance, json, conflict: false }
    this.announced.set(key, announced)
    this.renewing.within(this.options.leaseRefreshMs)
    try {
      if (await this.store.put(key, entry.instance, json, this.options.leaseMs)) return true
    } catch (error) {
      if (error instanceof EvenkeelError && error.code === 'NOT_READY') return false
      this.forget(announced, before)
      throw error
    }
    this.forget(announced, before)
    throw conflictError(key)
  }

  async withdraw(): Promise<void> {
    const entries = [...this.announced.values()]
    const leads = [...this.leads]
    this.announced.clear()
    await Promise.allSettled([
      ...entries.map(({ key, instance }) => this.store.remove(key, instance)),
      ...leads.map((name) => this.resign(name)),
    ])
  }

  watch(listener: RegistryListener): () => void {
    // A copy of its own, so that one function may watch twice.
    const own: RegistryListener = (changes) => listener(changes)
    let ended = false
    queueMicrotask(() => {
      if (ended || this.closed) return
      this.listeners.add(own)
      const joined = this.view.entries().map((entry) => ({ type: 'joined' as const, entry }))
      if (joined.length > 0) own(joined)
      if (!this.watched) this.reading.soon()
      this.watched = true
    })
    return () => {
      ended = true
      this.listeners.delete(own)
    }
  }

  entries(): readonly Entry[] {
    return this.view.entries()
  }

  async lead(name: string, ttlMs: number): Promise<boolean> {
    if (this.closed) throw closedError()
    if (!leaderNamePattern.test(name))
      throw new EvenkeelError('BAD_REQUEST', 'the name of a lease must be 1 to 64 of A-Z a-z 0-9 . _ : -')
    if (!Number.isSafeInteger(ttlMs) || ttlMs < 1)
      throw new EvenkeelError('BAD_REQUEST', 'ttlMs must be a whole number of milliseconds from 1')
    this.leads.add(name)
    const leads = await this.store.lead(name, this.owner, ttlMs)
    if (!leads) this.leads.delete(name)
    return leads
  }

  async resign(name: string): Promise<void> {
    if (!this.leads.delete(name)) return
    await this.store.resign(name, this.owner).catch(() => {})
  }

  status(): Readiness {
    return this.store.status()
  }

  async close(): Promise<void> {
    this.closed = true
    this.stopListening()
    this.renewing.stop()
    this.reading.stop()
    this.listeners.clear()
    this.announced.clear()
  }

  private forget(announced: Announced, before: Announced | undefined): void {
    if (this.announced.get(announced.key) !== announced) return
    if (before === undefined) this.announced.delete(announced.key)
    else this.announced.set(announced.key, before)
  }

  private async renew(): Promise<void> {
    if (this.announced.size === 0) return
    this.renewing.within(this.options.leaseRefreshMs)
    await Promise.all([...this.announced.values()].map((announced) => this.renewOne(announced)))
  }

  private async renewOne(announced: Announced): Promise<void> {
    const { key, instance, json } = announced
    try {
      const renewed = await this.store.put(key, instance, json, this.options.leaseMs)
      if (!renewed && !announced.conflict) this.options.onProblem(conflictError(key))
      announced.conflict = !renewed
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      // The store's own status says why; the next renewal mends it.
      if (error.code !== 'NOT_READY') this.options.onProblem(error)
    }
  }

  private async read(): Promise<void> {
    // Also when reading fails: what is unreadable now is read again later.
    this.reading.within(this.options.leaseRefreshMs)
    let stored: Awaited<ReturnType<RegistryStore['read']>>
    try {
      stored = await this.store.read(this.view.revision)
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      if (error.code !== 'NOT_READY') this.options.onProblem(error)
      return
    }
    if (this.closed) return
    const now = this.options.now()
    const changes = this.view.update(stored, now)
    const wake = this.view.doubtsEndInMs(now)
    if (wake !== null) this.reading.within(wake)
    if (stored.lapsesInMs !== null) this.reading.within(stored.lapsesInMs + lapseMarginMs)
    if (changes.length > 0) for (const listener of [...this.listeners]) listener(changes)
  }
}

function closedError(): EvenkeelError {
  return new EvenkeelError('NOT_READY', 'the registry is closed')
}

function conflictError(key: string): EvenkeelError {
  const [kind, id] = key.split('/')
  return new EvenkeelError(
    'CONFLICT',
    `${kind} id ${id} is live from another process; give each ${kind} its own id`,
  )
}
