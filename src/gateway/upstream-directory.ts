import type { DnsQuery } from '../cluster/dns-discovery.ts'
import type { ProxyProtocolVersion } from '../core/net/proxy-protocol.ts'
import type { DrainOrder } from '../protocol/link-records.ts'

/** Where an upstream comes from: the configuration, a DNS name in it, or the store that all gateways share. */
export type UpstreamOrigin = 'config' | 'dns' | 'store'

/**
 * A server that is known by its URL. One object is one moment: a change brings another object with the same id.
 */
export interface Upstream {
  /** 1 to 64 of `A–Z a–z 0–9 . _ : -`, by default `host:port`; unique over all pools. */
  readonly id: string
  readonly pool: string
  readonly origin: UpstreamOrigin
  /** `http:` or `https:` and an origin only: no path, query or user. Gives `Host` and the name for TLS. */
  readonly url: URL
  /** What is to be dialled in place of the URL's host: this address was checked. No redirect is to be followed. */
  readonly address: UpstreamAddress
  readonly weight: number
  /** An operator's order, the same at all gateways; null: it takes sessions. */
  readonly drain: DrainOrder | null
  /** Probes succeed and its traffic does not fail. False until the first probe has succeeded. */
  readonly healthy: boolean
}

export interface UpstreamAddress {
  /** An IPv4 or IPv6 address, without brackets. */
  readonly host: string
  readonly port: number
}

/**
 * `added` comes once before anything else of the id. `changed`: weight, drain or address; connections that are
 * open stay where they are. `healthy` and `unhealthy`: `healthy` has changed, and nothing else. An unhealthy upstream gets nothing new; what it has
 * may still work, since one that is ejected for its errors lives, and so may one whose probes fail: connections say themselves when they break. `removed`: it gets no
 * new session; those that it has are drained as if an operator had asked for it, since whoever took it off a list need not know that they are there.
 * The same id may be `added` again meanwhile, with the same URL and pool or others.
 */
export interface UpstreamChange {
  readonly type: 'added' | 'removed' | 'changed' | 'healthy' | 'unhealthy'
  /** As it is now; for `removed` as it was last. */
  readonly upstream: Upstream
  /** Why it is unhealthy, for operators; null otherwise. */
  readonly reason: string | null
}

/**
 * What became of a request or a connection that was sent to an upstream. `ok`: it answered (any status below 500, also one that
 * refuses a handshake). `connect-failed`: no connection, or none in time. `error-response`: a status from 500, or an upgrade answered wrongly.
 * `broken`: cut before its answer was complete, or a WebSocket that ended without a close frame.
 * What a client did (aborted, went away) is no outcome.
 */
export type UpstreamOutcome = 'ok' | 'connect-failed' | 'error-response' | 'broken'

/** The upstreams of this gateway as sessions and proxies need them. */
export interface UpstreamSource {
  /** Those with a checked address, in a stable order. */
  all(): readonly Upstream[]
  get(id: string): Upstream | undefined
  /**
   * From now on; `all()` says what there is. Never called inside a call of this object's methods. Returns a function that ends it.
   * The listener must not throw.
   */
  onChange(listener: (change: UpstreamChange) => void): () => void
  /** Unknown ids are ignored: an outcome may come late. */
  report(id: string, outcome: UpstreamOutcome): void
  /**
   * Holds here at once (`get` shows it, `changed` follows); the other gateways learn it as soon as the store can be reached.
   * Unknown ids are ignored.
   */
  setWeight(id: string, weight: number): void
  /** The same; null takes the order back. */
  setDrain(id: string, order: DrainOrder | null): void
}

/** What is kept for operators: also upstreams that have no usable address. */
export interface UpstreamView {
  id: string
  pool: string
  url: string
  origin: UpstreamOrigin
  weight: number
  drain: DrainOrder | null
  /** The address that is dialled, `host:port`; null: none that may be used is known. */
  address: string | null
  /** `ejected`: its probes succeed, its traffic fails. `unresolved`: it has no address. */
  health: 'healthy' | 'unhealthy' | 'ejected' | 'unresolved'
  /** Why it is not healthy. */
  reason: string | null
}

export interface NewUpstream {
  pool: string
  url: string
  /** Default 1. */
  weight?: number
  /** Default: `host:port` of the URL. */
  id?: string
}

/** Totals since the gateway started. */
export interface UpstreamCounters {
  /** By result; `void`: the gateway itself was stalled. */
  probes: { success: number; failure: number; void: number }
  /** Upstreams that were taken away because of their traffic, by what it met. */
  ejections: Record<Exclude<UpstreamOutcome, 'ok'>, number>
}

export interface UpstreamDirectory extends UpstreamSource {
  readonly counters: Readonly<UpstreamCounters>
  list(): UpstreamView[]
  /**
   * Adds an upstream for all gateways. Rejects with BAD_REQUEST (a field), FORBIDDEN (its address may not be used), CONFLICT (the id
   * is taken), TOO_MANY_REQUESTS (the store is full), NOT_READY (the store is away).
   */
  add(upstream: NewUpstream): Promise<UpstreamView>
  /** Rejects with NOT_FOUND, CONFLICT (it comes from the configuration or from DNS), NOT_READY (the store is away). */
  remove(id: string): Promise<void>
}

/** What a pool's configuration says of its upstreams. */
export interface UpstreamPool {
  readonly name: string
  readonly upstreams: readonly ConfiguredUpstream[]
  /** Every address of the name is an upstream. */
  readonly dns: DnsQuery | null
  readonly probe: ProbeSettings
  /** CIDR blocks; null: everything but what is never an upstream (link-local, metadata, unspecified, multicast, foreign names for loopback). */
  readonly allowedAddresses: readonly string[] | null
  /** It takes `tcp:` URLs: no request is ever sent to its upstreams. Default: false. */
  readonly tcpOnly?: boolean
}

export interface ConfiguredUpstream {
  readonly url: string
  readonly id?: string
  /** Default 1. */
  readonly weight?: number
}

export interface ProbeSettings {
  /** A status of 200 to 399 is a success. null: a TCP connection is. */
  readonly path: string | null
  /** Default 5 s. */
  readonly intervalMs: number
  /** Default 2 s. */
  readonly timeoutMs: number
  /** Failures in a row until it is unhealthy; default 3. One success brings it back. */
  readonly failures: number
  /** Requests of probes begin with a header that says that they are for nobody. Default null. */
  readonly proxyProtocol?: ProxyProtocolVersion | null
}
