import type { Readiness } from './bus.ts'
import { entryBytesMax } from './entry.ts'
import { loadScript } from './redis-script.ts'
import type { RedisServers } from './redis-servers.ts'
import type { RedisSubscriptions } from './redis-subscriptions.ts'
import type { RegistryStore, StoreView } from './registry.ts'

const scripts = {
  announce: loadScript('announce'),
  withdraw: loadScript('withdraw'),
  read: loadScript('read'),
  lead: loadScript('lead'),
  resign: loadScript('resign'),
}

export interface RedisRegistryStoreOptions {
  servers: RedisServers
  subscriptions: RedisSubscriptions
  prefix: string
}

/** Entries and leases in Redis. Times are those of the server that has the keys, so that clocks need not agree. */
export class RedisRegistryStore implements RegistryStore {
  private readonly servers: RedisServers
  private readonly subscriptions: RedisSubscriptions
  private readonly prefix: string
  /** Entries, leases, revision. The tag puts them and the channel of changes into one slot of a Redis Cluster. */
  private readonly keys: readonly [string, string, string]
  private readonly changes: string
  private subscribed: Promise<unknown> = Promise.resolve()

  constructor({ servers, subscriptions, prefix }: RedisRegistryStoreOptions) {
    this.servers = servers
    this.subscriptions = subscriptions
    this.prefix = prefix
    this.keys = [`${prefix}{registry}:entries`, `${prefix}{registry}:leases`, `${prefix}{registry}:revision`]
    this.changes = `${prefix}{registry}:changes`
  }

  async put(key: string, instance: string, json: string, leaseMs: number): Promise<boolean> {
    const args = [key, instance, json, leaseMs, ...this.notification]
    return (await this.servers.run(scripts.announce, this.keys, args)) === 1
  }

  async remove(key: string, instance: string): Promise<void> {
    await this.servers.run(scripts.withdraw, this.keys, [key, instance, ...this.notification])
  }

  async read(revision: number): Promise<StoreView> {
    const args = [revision, entryBytesMax, ...this.notification]
    const reply = (await this.servers.run(scripts.read, this.keys, args)) as [
      string,
      string,
      number,
      ...string[],
    ]
    const [current, lapsesIn, follow, ...flat] = reply
    const entries: [key: string, json: string][] = []
    for (let i = 0; i < flat.length; i += 2) entries.push([flat[i]!, flat[i + 1]!])
    return {
      revision: Number(current),
      entries: follow === 1 ? entries : null,
      lapsesInMs: Number(lapsesIn) < 0 ? null : Number(lapsesIn),
    }
  }

  async lead(name: string, owner: string, ttlMs: number): Promise<boolean> {
    return (await this.servers.run(scripts.lead, [this.leadKey(name)], [owner, ttlMs])) === 1
  }

  async resign(name: string, owner: string): Promise<void> {
    await this.servers.run(scripts.resign, [this.leadKey(name)], [owner])
  }

  listen(listener: (event: 'changed' | 'restored') => void): () => void {
    this.subscribed = this.subscriptions.subscribe(this.changes, () => listener('changed'))
    const stop = this.servers.listen({
      up: (server) => {
        if (server === this.servers.homeOf(this.keys[0])) listener('restored')
      },
      topology: () => listener('restored'),
    })
    return () => {
      stop()
      void this.subscriptions.unsubscribe(this.changes)
    }
  }

  /** Resolves when changes are heard, or Redis turned out to be away. */
  async settled(): Promise<void> {
    await this.subscribed
  }

  status(): Readiness {
    return this.servers.status()
  }

  private get notification(): [command: string, channel: string] {
    return [this.servers.sharded ? 'SPUBLISH' : 'PUBLISH', this.changes]
  }

  private leadKey(name: string): string {
    return `${this.prefix}{lead:${name}}`
  }
}
