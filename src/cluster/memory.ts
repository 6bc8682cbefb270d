import type { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import type { Position } from '../protocol/position.ts'
import type { Bus, ChannelHandler, Readiness } from './bus.ts'
import { encodeChannelPayload } from './channel-payload.ts'
import { assertChannelName, assertMessageSize, busClosed, channelTaken } from './channel-rules.ts'
import { LeasedRegistry } from './leased-registry.ts'
import type { ClusterMember } from './member.ts'
import { HistoryRecords, MemoryHistory } from './memory-history.ts'
import { MemoryRuns, RunRecords } from './memory-runs.ts'
import { MemoryUpstreamRecords } from './memory-upstreams.ts'
import { RecordedUpstreams } from './recorded-upstreams.ts'
import type { Registry, RegistryStore, StoreView } from './registry.ts'
import type { RunLimit } from './run-log.ts'

export interface MemoryClusterOptions {
  /** Default: those of `defaultLimits`. */
  limits?: Partial<Record<'leaseMs' | 'leaseRefreshMs' | 'messageBytes' | RunLimit, number>>
  /** Milliseconds that only grow; default `performance.now`. */
  now?: () => number
  /** A junk entry, or an id that another process took. Default: nobody is told. */
  onProblem?: (problem: EvenkeelError) => void
}

/** A cluster inside one process: for a single gateway, and for tests with several. */
export class MemoryCluster {
  private readonly limits: { leaseMs: number; leaseRefreshMs: number; messageBytes: number }
  private readonly runRecords: RunRecords
  private readonly now: () => number
  private readonly onProblem: (problem: EvenkeelError) => void
  private readonly buses = new Set<MemoryBus>()
  private readonly records: RegistryRecords
  private readonly histories: HistoryRecords
  private readonly upstreamRecords = new MemoryUpstreamRecords()

  constructor(options: MemoryClusterOptions = {}) {
    const limits = { ...defaultLimits, ...options.limits }
    this.limits = limits
    this.now = options.now ?? (() => performance.now())
    this.runRecords = new RunRecords(this.now, limits)
    this.onProblem = options.onProblem ?? (() => {})
    this.records = new RegistryRecords(this.now)
    this.histories = new HistoryRecords(this.now)
  }

  /** Another place in the cluster, as of another process. */
  join(): ClusterMember {
    const { messageBytes } = this.limits
    const bus = new MemoryBus(this.buses, messageBytes)
    const registry = this.registry()
    const upstreams = new RecordedUpstreams({
      records: this.upstreamRecords.records(),
      refreshMs: this.limits.leaseRefreshMs,
      onProblem: this.onProblem,
    })
    const history = new MemoryHistory({
      records: this.histories,
      messageBytes,
      isClosed: () => !bus.status().ready,
      deliver: (channel, { payload, text, position }) =>
        deliver(this.buses, channel, payload, text, position),
    })
    const runs = new MemoryRuns(this.runRecords, () => !bus.status().ready)
    return {
      bus,
      registry,
      history,
      runs,
      upstreams,
      limiter: null,
      async close() {
        runs.close()
        await Promise.all([bus.close(), registry.close(), upstreams.close()])
      },
    }
  }

  bus(): Bus {
    return new MemoryBus(this.buses, this.limits.messageBytes)
  }

  registry(): Registry {
    const { leaseMs, leaseRefreshMs } = this.limits
    const { now, onProblem } = this
    return new LeasedRegistry({ store: this.records.store(), leaseMs, leaseRefreshMs, now, onProblem })
  }

  /** Stores an entry unchecked, as any program with access to Redis could: to try what readers make of it. */
  plant(key: string, json: string): void {
    this.records.plant(key, json, this.limits.leaseMs)
  }

  /** The same for what is kept of upstreams; null deletes. */
  plantUpstream(hash: 'entries' | 'settings', key: string, json: string | null): void {
    this.upstreamRecords.plant(hash, key, json)
  }
}

class MemoryBus implements Bus {
  private readonly buses: Set<MemoryBus>
  private readonly messageBytes: number
  readonly handlers = new Map<string, ChannelHandler>()
  private closed = false

  constructor(buses: Set<MemoryBus>, messageBytes: number) {
    this.buses = buses
    this.messageBytes = messageBytes
    buses.add(this)
  }

  async subscribe(channel: string, handler: ChannelHandler): Promise<boolean> {
    assertChannelName(channel)
    if (this.closed) throw busClosed()
    if (this.handlers.has(channel)) throw channelTaken(channel)
    this.handlers.set(channel, handler)
    return true
  }

  async unsubscribe(channel: string): Promise<void> {
    this.handlers.delete(channel)
  }

  async publish(channel: string, payload: Buffer, text: boolean): Promise<void> {
    assertChannelName(channel)
    assertMessageSize(payload, this.messageBytes)
    if (this.closed) throw busClosed()
    encodeChannelPayload(payload, text)
    const copy = Buffer.from(payload)
    // Never inside the caller's own stack; microtasks keep the order.
    await null
    deliver(this.buses, channel, copy, text, null)
  }

  /** Nothing comes between two places of one process. */
  onGap(): () => void {
    return () => {}
  }

  status(): Readiness {
    return this.closed ? { ready: false, reason: 'closed' } : { ready: true, reason: null }
  }

  async close(): Promise<void> {
    this.closed = true
    this.handlers.clear()
    this.buses.delete(this)
  }
}

function deliver(
  buses: ReadonlySet<MemoryBus>,
  channel: string,
  payload: Buffer,
  text: boolean,
  position: Position | null,
): void {
  for (const { handlers } of [...buses]) handlers.get(channel)?.(payload, text, position)
}

/** What Redis keeps for the others, with the steps of the scripts in `lua/`. */
class RegistryRecords {
  private readonly now: () => number
  private readonly entries = new Map<string, { instance: string; json: string; lapsesAt: number }>()
  private readonly leads = new Map<string, { owner: string; lapsesAt: number }>()
  private readonly listeners = new Set<(event: 'changed') => void>()
  private revision = 0

  constructor(now: () => number) {
    this.now = now
  }

  store(): RegistryStore {
    return {
      put: async (...args) => this.put(...args),
      remove: async (...args) => this.remove(...args),
      read: async (revision) => this.read(revision),
      lead: async (...args) => this.lead(...args),
      resign: async (...args) => this.resign(...args),
      listen: (listener) => {
        this.listeners.add(listener)
        return () => this.listeners.delete(listener)
      },
      status: () => ({ ready: true, reason: null }),
    }
  }

  plant(key: string, json: string, leaseMs: number): void {
    this.entries.set(key, { instance: 'planted', json, lapsesAt: this.now() + leaseMs })
    this.changed()
  }

  private put(key: string, instance: string, json: string, leaseMs: number): boolean {
    this.prune()
    const known = this.entries.get(key)
    if (known !== undefined && known.instance !== instance) return false
    this.entries.set(key, { instance, json, lapsesAt: this.now() + leaseMs })
    if (known?.json !== json) this.changed()
    return true
  }

  private remove(key: string, instance: string): void {
    if (this.entries.get(key)?.instance !== instance) return
    this.entries.delete(key)
    this.changed()
  }

  private read(revision: number): StoreView {
    this.prune()
    const all = [...this.entries]
    const firstLapse = Math.min(...all.map(([, { lapsesAt }]) => lapsesAt))
    return {
      revision: this.revision,
      entries: revision > 0 && revision === this.revision ? null : all.map(([key, { json }]) => [key, json]),
      lapsesInMs: all.length === 0 ? null : firstLapse - this.now(),
    }
  }

  private lead(name: string, owner: string, ttlMs: number): boolean {
    const known = this.leads.get(name)
    if (known !== undefined && known.owner !== owner && known.lapsesAt > this.now()) return false
    this.leads.set(name, { owner, lapsesAt: this.now() + ttlMs })
    return true
  }

  private resign(name: string, owner: string): void {
    if (this.leads.get(name)?.owner === owner) this.leads.delete(name)
  }

  private prune(): void {
    for (const [key, { lapsesAt }] of this.entries) {
      if (lapsesAt > this.now()) continue
      this.entries.delete(key)
      this.changed()
    }
  }

  private changed(): void {
    this.revision++
    for (const listener of this.listeners) listener('changed')
  }
}
