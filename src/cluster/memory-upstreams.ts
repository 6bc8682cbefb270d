import { type RecordsView, type UpstreamRecords, upstreamSettingsMax, upstreamsMax } from './upstreams.ts'

/** What Redis keeps for the others, with the steps of the scripts `upstreams-*.lua`. */
export class MemoryUpstreamRecords {
  private readonly entries = new Map<string, string>()
  private readonly settings = new Map<string, string>()
  private readonly listeners = new Set<() => void>()
  private revision = 0

  records(): UpstreamRecords {
    return {
      add: async (...args) => this.add(...args),
      remove: async (...args) => this.remove(...args),
      set: async (...args) => this.set(...args),
      read: async (digest) => this.read(digest),
      listen: (listener) => {
        this.listeners.add(listener)
        return () => this.listeners.delete(listener)
      },
      status: () => ({ ready: true, reason: null }),
    }
  }

  /** Stores without a check, as any program with access to Redis could. */
  plant(hash: 'entries' | 'settings', key: string, json: string | null): void {
    if (json === null) this[hash].delete(key)
    else this[hash].set(key, json)
    this.revision++
  }

  private add(id: string, json: string, fresh: boolean): 'added' | 'taken' | 'full' {
    const known = this.entries.get(id)
    if (known === json) return 'added'
    if (known !== undefined) return 'taken'
    if (this.entries.size >= upstreamsMax) return 'full'
    this.entries.set(id, json)
    if (fresh) this.forgetSettings(id)
    this.changed()
    return 'added'
  }

  private remove(id: string): boolean {
    const removed = this.entries.delete(id)
    this.forgetSettings(id)
    this.changed()
    return removed
  }

  private set(field: string, json: string | null): void {
    if (json === null) this.settings.delete(field)
    else {
      if (!this.settings.has(field) && this.settings.size >= upstreamSettingsMax) this.dropOldest()
      this.settings.set(field, json)
    }
    this.changed()
  }

  private read(digest: string): RecordsView | null {
    const current = String(this.revision)
    if (digest === current) return null
    const ids = [...this.entries.keys()].sort()
    return {
      digest: current,
      lineage: 'memory',
      entries: ids.slice(0, upstreamsMax).map((id) => [id, this.entries.get(id)!]),
      settings: [...this.settings],
      left: Math.max(0, ids.length - upstreamsMax),
    }
  }

  private forgetSettings(id: string): void {
    for (const kind of ['weight', 'drain']) this.settings.delete(`${kind}/${id}`)
  }

  private dropOldest(): void {
    const at = (json: string) => Number(/"at":(\d+)/.exec(json)?.[1] ?? 0)
    const [oldest] = [...this.settings].toSorted(([, a], [, b]) => at(a) - at(b))
    if (oldest !== undefined) this.settings.delete(oldest[0])
  }

  private changed(): void {
    this.revision++
    for (const listener of this.listeners) listener()
  }
}
