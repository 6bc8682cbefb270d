import { EvenkeelError } from '../protocol/errors.ts'
import type { DrainOrder } from '../protocol/link-records.ts'
import type { Readiness } from './bus.ts'

/** A server that somebody added for all gateways. */
export interface StoredUpstream {
  readonly id: string
  readonly pool: string
  /** Checked to be an upstream's URL; its address is not. */
  readonly url: string
  readonly weight: number
}

/** What an operator wants of an upstream, wherever that is listed. */
export interface UpstreamSettings {
  readonly weight?: number
  readonly drain?: DrainOrder
}

/** null takes a setting back. */
export interface UpstreamWish {
  readonly weight?: number | null
  readonly drain?: DrainOrder | null
}

export interface StoredUpstreams {
  readonly upstreams: ReadonlyMap<string, StoredUpstream>
  readonly settings: ReadonlyMap<string, UpstreamSettings>
}

/**
 * The upstreams that all gateways share, and what operators set of these and others. While the store is away its last content holds;
 * when it comes back without its data, those who know it write it anew.
 * Others may write to it: what is no upstream is reported and ignored.
 */
export interface SharedUpstreams {
  /**
   * Resolves when all gateways can find it. Rejects with CONFLICT when the id is another's, BAD_REQUEST for a bad field,
   * TOO_MANY_REQUESTS when the store is full, NOT_READY when it is away (after a time-out it may be stored all the same; to add the same once more is no mistake).
   */
  add(upstream: StoredUpstream): Promise<void>

  /** With its settings. Resolves false when there was none of this id; rejects with NOT_READY. */
  remove(id: string): Promise<boolean>

  /** Holds here at once and at the other gateways as soon as the store can be reached. The last wish of a kind counts. */
  set(id: string, wish: UpstreamWish): void

  /** Calls the listener with what there is, and with everything again after each change. Never synchronously; must not throw. */
  watch(listener: (content: StoredUpstreams) => void): () => void

  /** Resolves when the store was read, or turned out to be away; not before somebody watches. */
  settled(): Promise<void>

  status(): Readiness

  close(): Promise<void>
}

/** What the rules in `recorded-upstreams.ts` need of the place where upstreams are kept. */
export interface UpstreamRecords {
  /** `taken`: the id has another JSON already. `fresh`: settings that are there under this id are another one's, and go. */
  add(id: string, json: string, fresh: boolean): Promise<'added' | 'taken' | 'full'>
  remove(id: string): Promise<boolean>
  /** `json` null deletes the field. Beyond `upstreamSettingsMax` the one with the smallest `at` goes. */
  set(field: string, json: string | null): Promise<void>
  /** null when nothing has changed since `digest` was read; empty asks for everything. */
  read(digest: string): Promise<RecordsView | null>
  /** Others have changed something, or the store is back. */
  listen(listener: () => void): () => void
  status(): Readiness
}

export interface RecordsView {
  readonly digest: string
  /** Names the data that the store has: another one, or none, means that what it had was lost. Empty before the first write. */
  readonly lineage: string
  /** Of more than `upstreamsMax` upstreams the first ones by id. */
  readonly entries: readonly (readonly [id: string, json: string])[]
  readonly settings: readonly (readonly [field: string, json: string])[]
  /** Upstreams that are there beyond those. */
  readonly left: number
}

/** In a whole cluster. */
export const upstreamsMax = 1_000
/** Two for each upstream, and for as many again that are listed elsewhere. */
export const upstreamSettingsMax = 4_000
/** Of one entry, as JSON. */
export const upstreamBytesMax = 1_024

export function upstreamsClosed(): EvenkeelError {
  return new EvenkeelError('NOT_READY', 'the list of upstreams is closed')
}
