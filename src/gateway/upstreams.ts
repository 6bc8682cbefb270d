import type { SessionMeta } from '../protocol/link-records.ts'
import type { ClientConnection } from './client-connection.ts'
import type { Gateway } from './gateway.ts'
import { TcpSession } from './tcp-session.ts'
import type { UpstreamDial } from './upstream-connection.ts'
import type { Upstream, UpstreamChange, UpstreamSource } from './upstream-directory.ts'
import { UpstreamEntry, type UpstreamRules } from './upstream-entry.ts'
import { UpstreamSession } from './upstream-session.ts'

export interface UpstreamsOptions {
  readonly source: UpstreamSource
  /** By pool. These pools have upstreams and nothing else. */
  readonly pools: ReadonlyMap<string, UpstreamRules>
}

/** Keeps the gateway's nodes as the directory of upstreams says. */
export class Upstreams {
  readonly source: UpstreamSource
  private readonly gateway: Gateway
  private pools: ReadonlyMap<string, UpstreamRules>
  private unsubscribe: (() => void) | null = null

  constructor(gateway: Gateway, { source, pools }: UpstreamsOptions) {
    this.gateway = gateway
    this.source = source
    this.pools = pools
  }

  start(): void {
    this.unsubscribe = this.source.onChange((change) => this.changed(change))
    for (const upstream of this.source.all()) this.added(upstream)
  }

  stop(): void {
    this.unsubscribe?.()
    for (const node of this.gateway.nodes.all()) if (node instanceof UpstreamEntry) node.stop()
  }

  /** What there is of a pool that is gone is drained: the source says that it is removed. */
  configure(pools: ReadonlyMap<string, UpstreamRules>): void {
    this.pools = pools
    for (const node of this.gateway.nodes.all()) {
      const rules = pools.get(node.pool)
      if (node instanceof UpstreamEntry && rules !== undefined) node.configure(rules)
    }
  }

  /** Whether the pool's nodes are upstreams. */
  has(pool: string): boolean {
    return this.pools.has(pool)
  }

  /** A client is connected, and so is its upstream: it gets a session, which is to `begin` over its line. */
  openSession(
    pool: string,
    meta: Omit<SessionMeta, 'id'>,
    connection: ClientConnection,
    dial: UpstreamDial,
    key: string | null = null,
  ): UpstreamSession {
    const { gateway } = this
    const session = gateway.createSession(
      pool,
      meta,
      null,
      (identity) => new UpstreamSession(gateway, identity, dial),
    )
    session.key = key
    session.attach(connection)
    return session
  }

  /** A client is connected to the upstream, byte for byte. */
  openTcpSession(entry: UpstreamEntry, address: string, connection: ClientConnection): TcpSession {
    const { gateway } = this
    const meta = { transport: 'tcp', address, path: '', query: '', headers: {}, subprotocol: '' } as const
    const session = gateway.createSession(
      entry.pool,
      meta,
      null,
      (identity) => new TcpSession(gateway, identity),
    )
    session.attach(connection)
    session.begin(entry)
    return session
  }

  private entry(id: string): UpstreamEntry | null {
    const node = this.gateway.nodes.get(id)
    return node instanceof UpstreamEntry ? node : null
  }

  private changed({ type, upstream, reason }: UpstreamChange): void {
    const entry = this.entry(upstream.id)
    if (type === 'added') this.added(upstream)
    else if (entry === null || entry.pool !== upstream.pool) return
    else if (type === 'removed') this.removed(entry)
    else {
      entry.upstream = upstream
      if (type === 'unhealthy') this.gateway.nodes.lose(entry, reason ?? 'unhealthy')
      else if (type === 'healthy') this.gateway.upstreamUp(entry)
      else this.gateway.steering.upstreamSet(entry)
    }
  }

  private added(upstream: Upstream): void {
    const { gateway } = this
    const rules = this.pools.get(upstream.pool)
    if (rules === undefined) return
    const known = this.entry(upstream.id)
    // It has come back before its drain was over.
    if (known !== null && known.pool === upstream.pool) {
      known.upstream = upstream
      known.leaving = false
      if (upstream.healthy && known.health === 'down') gateway.upstreamUp(known)
      else if (!upstream.healthy) gateway.nodes.lose(known, 'not probed yet')
      gateway.steering.upstreamSet(known)
      return
    }
    if (known === null && gateway.nodes.get(upstream.id) !== undefined) {
      gateway.publish({
        type: 'upstream-ignored',
        upstream: upstream.id,
        reason: 'a node that is linked has this id',
      })
      return
    }
    const entry = new UpstreamEntry(upstream, rules, this.source, () => gateway.nodesChanged())
    if (known !== null) gateway.nodes.remove(known)
    entry.health = 'down'
    entry.state = 'down'
    gateway.nodes.add(entry)
    if (upstream.healthy) gateway.upstreamUp(entry)
    else gateway.steering.upstreamSet(entry)
  }

  private removed(entry: UpstreamEntry): void {
    entry.leaving = true
    this.gateway.steering.upstreamLeaves(entry)
  }
}
