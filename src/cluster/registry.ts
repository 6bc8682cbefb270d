import type { Readiness } from './bus.ts'
import type { Entry } from './entry.ts'

export interface RegistryChange {
  /** A new instance under a known id is one that left and one that joined. */
  readonly type: 'joined' | 'changed' | 'left'
  /** For `left`: the entry as it was last. */
  readonly entry: Entry
}

export type RegistryListener = (changes: readonly RegistryChange[]) => void

/**
 * Who is in the cluster. Entries live on leases that this object renews (every `leaseRefreshMs`, default 2 s): an
 * owner that dies is gone after `leaseMs` (default 6 s). While the store is away watchers keep their last view; when it
 * comes back without its data they wait one lease for the owners before they believe that somebody left.
 */
export interface Registry {
  /**
   * Announces an entry, or a change of one. Resolves true when the others can see it; false when the store is away: the
   * entry is kept and announced as soon as possible.
   * Rejects with CONFLICT when the id is live from another instance (a process that was killed blocks its id for one
   * lease), BAD_REQUEST or TOO_LARGE for a bad entry, NOT_READY after `close`. What was rejected is not kept.
   */
  announce(entry: Entry): Promise<boolean>

  /** Takes back all that this object announced and leads. Never rejects: what could not be taken back lapses. */
  withdraw(): Promise<void>

  /**
   * Calls the listener with all known entries as `joined`, this process's own included, and then with every change.
   * Never synchronously. Returns a function that ends it. The listener must not throw.
   */
  watch(listener: RegistryListener): () => void

  /** The last view; empty unless something watches. */
  entries(): readonly Entry[]

  /**
   * Takes or renews an exclusive lease. True: this object holds it for `ttlMs` from the moment of the call; no other
   * one gets it before. False: another holds it. Rejects with NOT_READY when the store is away, BAD_REQUEST for a bad name or time.
   */
  lead(name: string, ttlMs: number): Promise<boolean>

  /** Gives the lease back, if this object holds it. Never rejects. */
  resign(name: string): Promise<void>

  status(): Readiness

  /** Stops renewing and watching. Without `withdraw` before, the entries lapse by themselves, as after a crash. */
  close(): Promise<void>
}

/** What a registry needs of the place where entries are kept. Its time is one clock for the whole cluster. */
export interface RegistryStore {
  /** Stores the entry with a new lease. False: the key is live from another instance, and nothing has changed. */
  put(key: string, instance: string, json: string, leaseMs: number): Promise<boolean>
  /** Removes the entry if it is this instance's. */
  remove(key: string, instance: string): Promise<void>
  /** The live entries; null for `entries` when nothing has changed since `revision`. 0 asks for all of them. */
  read(revision: number): Promise<StoreView>
  /** True when `owner` holds the lease now. */
  lead(name: string, owner: string, ttlMs: number): Promise<boolean>
  resign(name: string, owner: string): Promise<void>
  /** `changed`: others have changed something. `restored`: the store was away and is back, maybe without its data. */
  listen(listener: (event: 'changed' | 'restored') => void): () => void
  status(): Readiness
}

export interface StoreView {
  /** Grows with every change; a lower one than before means that data was lost; 0 when empty. */
  readonly revision: number
  /** Key and JSON, unchecked. */
  readonly entries: readonly (readonly [key: string, json: string])[] | null
  /** Time until the next lease ends; null without entries. */
  readonly lapsesInMs: number | null
}
