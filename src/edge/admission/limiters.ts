import type { Limiter, MakeLimiter } from '../../cluster/limiter.ts'
import { BoundedMap } from '../../core/limits/bounded-map.ts'
import { MessagePace } from '../../core/limits/message-pace.ts'
import { ReturnSlots } from '../../core/limits/return-slots.ts'
import type { LimitScope, RateLimits, ScopeLimits } from '../../core/limits/rules.ts'
import { type Rate, TokenBucket } from '../../core/limits/token-bucket.ts'
import { SharedPaces } from './shared-pace.ts'

/** Addresses, users and routes that are remembered, by each limit. */
const keysMost = 100_000

type Buckets = BoundedMap<string, TokenBucket>

/** What is left of the rates of one scope, by key. */
export interface ScopeState {
  readonly scope: Exclude<LimitScope, 'connection' | 'gateway'>
  readonly limits: ScopeLimits
  readonly newConnections: Buckets | null
  readonly requests: Buckets | null
  readonly messages: BoundedMap<string, MessagePace> | null
  /** The same over all gateways. */
  readonly shared: { readonly newConnections: Limiter | null; readonly requests: Limiter | null }
}

/** What is left of all rates. Made anew when they change. */
export class Limiters {
  readonly rules: RateLimits
  readonly accepts: { readonly bucket: TokenBucket; readonly slots: ReturnSlots } | null
  readonly ip: ScopeState
  readonly user: ScopeState
  readonly route: ScopeState
  private readonly sharedPaces: SharedPaces | null
  private readonly now: () => number

  constructor(rules: RateLimits, now: () => number, shared: MakeLimiter | null) {
    this.rules = rules
    this.now = now
    const { newConnections } = rules.gateway
    this.accepts =
      newConnections === undefined
        ? null
        : {
            bucket: new TokenBucket(newConnections, now()),
            slots: new ReturnSlots(newConnections.perSecond),
          }
    const { messages } = rules.perUser
    this.sharedPaces =
      messages === undefined || shared === null
        ? null
        : new SharedPaces(shared('messages', messages), messages, rules.patienceMs, now)
    this.ip = this.scopeOf('ip', rules.perIp, null)
    this.user = this.scopeOf('user', rules.perUser, shared)
    this.route = this.scopeOf('route', rules.perRoute, null)
  }

  close(): void {
    this.sharedPaces?.close()
  }

  private scopeOf(scope: ScopeState['scope'], limits: ScopeLimits, shared: MakeLimiter | null): ScopeState {
    const { newConnections, requests, messages } = limits
    const together = (name: string, rate: Rate | undefined) =>
      rate === undefined || shared === null ? null : shared(name, rate)
    return {
      scope,
      limits,
      newConnections: this.buckets(newConnections),
      requests: this.buckets(requests),
      messages: messages === undefined ? null : this.paces(scope, messages),
      shared: {
        newConnections: together('new-connections', newConnections),
        requests: together('requests', requests),
      },
    }
  }

  private buckets(rate: Rate | undefined): Buckets | null {
    return rate === undefined ? null : new BoundedMap(keysMost, () => new TokenBucket(rate, this.now()))
  }

  private paces(scope: ScopeState['scope'], rate: Rate): BoundedMap<string, MessagePace> {
    // Nobody is closed for what others of the same route send.
    const patienceMs = scope === 'route' ? Number.POSITIVE_INFINITY : this.rules.patienceMs
    const { sharedPaces } = this
    return new BoundedMap<string, MessagePace>(keysMost, (key) =>
      scope === 'user' && sharedPaces !== null
        ? sharedPaces.of(key)
        : new MessagePace(rate, patienceMs, this.now()),
    )
  }
}
