import type { DrainOrder } from '../protocol/link-records.ts'
import type { Upstream, UpstreamChange, UpstreamPool, UpstreamSource } from './upstream-directory.ts'

/** The upstreams of the configuration whose URLs are addresses, taken as healthy. */
export class ConfiguredUpstreams implements UpstreamSource {
  private readonly upstreams = new Map<string, Upstream>()
  private readonly listeners = new Set<(change: UpstreamChange) => void>()

  constructor(pools: readonly UpstreamPool[]) {
    for (const { name, upstreams } of pools) {
      for (const { url: text, id, weight = 1 } of upstreams) {
        const url = new URL(text)
        const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
        const host = url.hostname.replace(/^\[|\]$/g, '')
        this.set({
          id: id ?? `${host}:${port}`,
          pool: name,
          origin: 'config',
          url,
          address: { host, port },
          weight,
          drain: null,
          healthy: true,
        })
      }
    }
  }

  all(): readonly Upstream[] {
    return [...this.upstreams.values()]
  }

  get(id: string): Upstream | undefined {
    return this.upstreams.get(id)
  }

  onChange(listener: (change: UpstreamChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  report(): void {}

  setWeight(id: string, weight: number): void {
    this.change(id, { weight })
  }

  setDrain(id: string, drain: DrainOrder | null): void {
    this.change(id, { drain })
  }

  private change(id: string, change: Partial<Upstream>): void {
    const known = this.upstreams.get(id)
    if (known === undefined) return
    const upstream = { ...known, ...change }
    this.set(upstream)
    setImmediate(() => {
      for (const listener of this.listeners) listener({ type: 'changed', upstream, reason: null })
    })
  }

  private set(upstream: Upstream): void {
    this.upstreams.set(upstream.id, upstream)
  }
}
