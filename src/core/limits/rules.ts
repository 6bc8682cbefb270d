import type { Block } from '../net/address.ts'
import type { Rate } from './token-bucket.ts'

/** Whose share of the gateway is limited: each client connection's, address's, user's or route's, or that of all together. */
export type LimitScope = 'connection' | 'ip' | 'user' | 'route' | 'gateway'
/** Client connections at once, new ones, requests, messages of clients. */
export type LimitedThing = 'connections' | 'new-connections' | 'requests' | 'messages'

/** Why a client was refused, as metrics name it. */
export type RefusalReason = 'denied' | 'overload' | `${LimitScope}-${LimitedThing}`

/** Absent: no limit. */
export interface ScopeLimits {
  readonly connections?: number
  readonly newConnections?: Rate
  readonly requests?: Rate
  readonly messages?: Rate
}

export interface RateLimits {
  readonly gateway: Pick<ScopeLimits, 'connections' | 'newConnections'>
  /** IPv6 addresses by /64. */
  readonly perIp: ScopeLimits
  /** Rates hold over all gateways that share a Redis, connections at each. */
  readonly perUser: ScopeLimits
  readonly perRoute: ScopeLimits
  readonly perConnection: Pick<ScopeLimits, 'messages'>
  /** For so long a client that sends too fast is held back before it is closed. */
  readonly patienceMs: number
  readonly deny: readonly Block[]
  /** Not limited; loads are still shed. */
  readonly exempt: readonly Block[]
}

/** How much of `RateLimits` is set, so that a gateway without limits asks nothing. */
export function limitsAnything({
  gateway,
  perIp,
  perUser,
  perRoute,
  perConnection,
  deny,
}: RateLimits): boolean {
  const scopes = [gateway, perIp, perUser, perRoute, perConnection]
  return deny.length > 0 || scopes.some((scope) => Object.values(scope).some((limit) => limit !== undefined))
}
