import type { Candidate } from '../core/balance/candidate.ts'
import type { ProxyProtocolVersion } from '../core/net/proxy-protocol.ts'
import { originOfUrl } from '../core/net/upstream-url.ts'
import type { Steer } from '../protocol/link-records.ts'
import { type NodeDescription, NodeEntry } from './node-entry.ts'
import type { Upstream, UpstreamOutcome, UpstreamSource } from './upstream-directory.ts'

/** `drain`: sessions stay until they end. `redial`: they move by a new connection to another upstream. */
export type UpstreamMigrate = 'drain' | 'redial'

/** What a pool's configuration says of how its upstreams are used. */
export interface UpstreamRules {
  readonly migrate: UpstreamMigrate
  /** Default null. */
  readonly proxyProtocol?: ProxyProtocolVersion | null
}

/** After a connection could not be made the upstream gets nothing for this long, unless its probes say more. */
const refusingMs = 500

/** A server that is known by its URL only, as this gateway knows it. */
export class UpstreamEntry extends NodeEntry {
  /** As the directory said last. */
  upstream: Upstream
  migrate: UpstreamMigrate
  /** Connections to it begin with a header that says whose they are; null: they do not. */
  proxyProtocol: ProxyProtocolVersion | null
  /** It is on no list any more, and goes when it is empty. */
  leaving = false
  /** Clients whose connection to it is being made. */
  dialling = 0
  /** HTTP requests in flight; each can be cut. */
  readonly requests = new Set<() => void>()
  private readonly source: UpstreamSource
  private readonly tried: () => void
  private timer: NodeJS.Timeout | null = null

  /** `tried`: what was refusing may be tried again. */
  constructor(
    upstream: Upstream,
    { migrate, proxyProtocol = null }: UpstreamRules,
    source: UpstreamSource,
    tried: () => void,
  ) {
    super(upstream.id, upstream.pool, upstream.weight)
    this.upstream = upstream
    this.migrate = migrate
    this.proxyProtocol = proxyProtocol
    this.source = source
    this.tried = tried
  }

  configure({ migrate, proxyProtocol = null }: UpstreamRules): void {
    this.migrate = migrate
    this.proxyProtocol = proxyProtocol
  }

  override get pending(): number {
    return this.incoming.size + this.dialling + this.requests.size
  }

  get maxSessions(): number | null {
    return null
  }

  get keepsSessions(): boolean {
    return this.migrate === 'drain'
  }

  /** Requests in flight come and go: they are a reason where to send the next client, none to move sessions. */
  override get planned(): Candidate {
    const { id, weight, warmth, sessions, maxSessions, healthy, active, keepsSessions } = this
    const pending = this.incoming.size
    return { id, weight, warmth, sessions, pending, maxSessions, healthy, active, keepsSessions }
  }

  get description(): NodeDescription {
    const { url } = this.upstream
    return { host: url.host, pid: null, version: null, url: originOfUrl(url), linkRttMs: null }
  }

  /** The directory keeps it, for all gateways. */
  steer({ weight, drain }: Steer): void {
    if (weight !== undefined) this.source.setWeight(this.id, weight)
    if (drain !== undefined) this.source.setDrain(this.id, drain)
  }

  drainEnded(): void {}

  override cutOff(): void {
    for (const cut of [...this.requests]) cut()
  }

  /** No connection could be made: others are to be tried first for a moment. */
  override refuse(): void {
    super.refuse()
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.refusing = false
      this.tried()
    }, refusingMs)
  }

  report(outcome: UpstreamOutcome): void {
    this.source.report(this.id, outcome)
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
  }
}
