import type { Readiness } from './bus.ts'
import { loadScript } from './redis-script.ts'
import type { RedisServers } from './redis-servers.ts'
import type { RedisSubscriptions } from './redis-subscriptions.ts'
import {
  type RecordsView,
  type UpstreamRecords,
  upstreamBytesMax,
  upstreamSettingsMax,
  upstreamsMax,
} from './upstreams.ts'

const scripts = {
  add: loadScript('upstreams-add'),
  remove: loadScript('upstreams-remove'),
  set: loadScript('upstreams-set'),
  read: loadScript('upstreams-read'),
}

export interface RedisUpstreamRecordsOptions {
  servers: RedisServers
  subscriptions: RedisSubscriptions
  prefix: string
}

/** Upstreams and settings in Redis, PROTOCOL.md §5.5. */
export class RedisUpstreamRecords implements UpstreamRecords {
  private readonly servers: RedisServers
  private readonly subscriptions: RedisSubscriptions
  /** Entries, settings, lineage. The tag puts them and the channel of changes into one slot of a Redis Cluster. */
  private readonly keys: readonly [string, string, string]
  private readonly changes: string

  constructor({ servers, subscriptions, prefix }: RedisUpstreamRecordsOptions) {
    this.servers = servers
    this.subscriptions = subscriptions
    this.keys = [
      `${prefix}{upstreams}:entries`,
      `${prefix}{upstreams}:settings`,
      `${prefix}{upstreams}:lineage`,
    ]
    this.changes = `${prefix}{upstreams}:changes`
  }

  async add(id: string, json: string, fresh: boolean): Promise<'added' | 'taken' | 'full'> {
    const args = [id, json, upstreamsMax, ...this.notification, fresh ? 1 : 0]
    return (await this.servers.run(scripts.add, this.keys, args)) as 'added' | 'taken' | 'full'
  }

  async remove(id: string): Promise<boolean> {
    return (await this.servers.run(scripts.remove, this.keys, [id, ...this.notification])) === 1
  }

  async set(field: string, json: string | null): Promise<void> {
    const args = [field, json ?? '', upstreamSettingsMax, ...this.notification]
    await this.servers.run(scripts.set, this.keys, args)
  }

  async read(digest: string): Promise<RecordsView | null> {
    const args = [digest, upstreamsMax, upstreamSettingsMax, upstreamBytesMax]
    const reply = (await this.servers.run(scripts.read, this.keys, args)) as
      | []
      | [digest: string, lineage: string, left: number, entries: string[], settings: string[]]
    if (reply.length === 0) return null
    const [current, lineage, left, entries, settings] = reply
    return {
      digest: current,
      lineage,
      left,
      entries: pairsOf(entries),
      settings: pairsOf(settings),
    }
  }

  listen(listener: () => void): () => void {
    void this.subscriptions.subscribe(this.changes, listener)
    const stop = this.servers.listen({
      up: (server) => {
        if (server === this.servers.homeOf(this.keys[0])) listener()
      },
      topology: listener,
    })
    return () => {
      stop()
      void this.subscriptions.unsubscribe(this.changes)
    }
  }

  status(): Readiness {
    return this.servers.status()
  }

  private get notification(): [command: string, channel: string] {
    return [this.servers.sharded ? 'SPUBLISH' : 'PUBLISH', this.changes]
  }
}

function pairsOf(flat: readonly string[]): (readonly [string, string])[] {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i]!, flat[i + 1]!])
  return pairs
}
