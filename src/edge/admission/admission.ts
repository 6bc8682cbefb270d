import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import type { Limiter } from '../../cluster/limiter.ts'
import { MessagePace } from '../../core/limits/message-pace.ts'
import { isListed, networkOf } from '../../core/limits/network.ts'
import { type Quota, rateHeaders } from '../../core/limits/rate-headers.ts'
import { isOpening, kindOfRequest, type RequestKind } from '../../core/limits/request-kind.ts'
import { limitsAnything, type RateLimits, type RefusalReason } from '../../core/limits/rules.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import { identityOf } from '../identity/sender.ts'
import { clientAddress, splitTarget } from '../request-meta.ts'
import type { LiveSettings, Target } from '../target.ts'
import { ClientPace, type ScopedPace } from './client-pace.ts'
import { Limiters, type ScopeState } from './limiters.ts'
import { OpenConnections } from './open-connections.ts'
import { Refusal, type RefusalDetails } from './refusal.ts'

export interface AdmissionOptions {
  readonly gateway: Pick<Gateway, 'now' | 'counters' | 'pressure' | 'cluster'>
  readonly settings: LiveSettings
  /** Jitter; default `Math.random`. */
  readonly random?: () => number
}

/** Clients that are shed come back spread over this time. */
const shedSpreadMs = { least: 2_000, spread: 8_000 }
/** A connection of the same client may end at any time. */
const connectionsRetryMs = { least: 1_000, spread: 4_000 }

const ownPaths: ReadonlySet<string> = new Set(['ws', 'sse', 'socket.io', 'engine.io', 'runs'])

interface Key {
  readonly state: ScopeState
  readonly key: string
}

/** What is known of a request that is asked about. */
interface Asking {
  readonly request: IncomingMessage
  readonly carrier: ServerResponse | Socket
  readonly kind: RequestKind
  readonly keys: readonly Key[]
}

/** Who is let in: by the limits of the configuration, and by what the gateway can take on. */
export class Admission {
  private readonly options: AdmissionOptions
  private rules: RateLimits
  private limiters: Limiters
  private active: boolean
  /** Of all scopes with a limit; the gateway's own is ''. */
  private readonly open = new OpenConnections()
  private readonly paces = new WeakMap<IncomingMessage, ClientPace>()
  private readonly posts = new WeakMap<object, MessagePace>()

  constructor(options: AdmissionOptions) {
    this.options = options
    this.rules = options.settings.current.rateLimits
    this.limiters = this.limitersOf(this.rules)
    this.active = limitsAnything(this.rules)
  }

  /**
   * Lets the request in, as far as its address, its route and the load go, or throws why not: FORBIDDEN, TOO_MANY_REQUESTS,
   * OVERLOADED. It costs little, and comes before anything that costs more.
   */
  admit(request: IncomingMessage, carrier: ServerResponse | Socket, target: Target): void {
    const { pressure } = this.options.gateway
    // What is counted is counted for all, so not by what this request was judged by.
    const rules = this.options.settings.current.rateLimits
    if (rules !== this.rules) this.adopt(rules)
    if (!this.active && pressure === 'normal') return
    const kind = kindOf(request, carrier, target)
    if (kind === 'health') return
    const address = clientAddress(request)
    if (isListed(address, rules.deny)) this.refuse('denied', 'FORBIDDEN', 'this address may not connect', {})
    const isNew = kind === 'session' || kind === 'run' || (pressure === 'critical' && kind === 'request')
    if (pressure !== 'normal' && isNew) {
      const text = 'the gateway is overloaded; try again later, or at another one'
      this.refuse('overload', 'OVERLOADED', text, { retryAfterMs: this.spread(shedSpreadMs) })
    }
    if (!this.active || isListed(address, rules.exempt)) return
    const { ip, route } = this.limiters
    const keys = [
      { state: ip, key: networkOf(address) },
      { state: route, key: routeKey(target) },
    ]
    const asking = { request, carrier, kind, keys }
    const opens = isOpening(kind)
    if (opens) this.assertRoom(asking)
    this.charge(asking)
    // Last, so that nobody who is refused by himself takes the place of others.
    if (opens) this.takeAccept()
    this.admitted(asking)
  }

  /**
   * The same as far as its user goes, once it is known who that is. null: it is in; a promise: others have to be asked, and it rejects in
   * the same way.
   */
  admitUser(
    request: IncomingMessage,
    carrier: ServerResponse | Socket,
    target: Target,
  ): Promise<void> | null {
    const user = target.identity?.user ?? null
    if (!this.active || user === null) return null
    if (isListed(clientAddress(request), this.rules.exempt)) return null
    const one = { state: this.limiters.user, key: user }
    const kind = kindOf(request, carrier, target)
    if (kind === 'health') return null
    const asking = { request, carrier, kind, keys: [one] }
    const opens = isOpening(kind)
    if (opens) this.assertRoomOf(one)
    this.charge(asking)
    this.admitted(asking)
    const { newConnections, requests } = one.state.shared
    const shared = [
      ...(opens && newConnections !== null ? [this.ask(newConnections, one, 'newConnections')] : []),
      ...(isRequest(asking) && requests !== null ? [this.ask(requests, one, 'requests')] : []),
    ]
    return shared.length === 0 ? null : allOf(shared)
  }

  /** How fast the client whose connection this request has opened may send; null: as fast as it likes. */
  paceOf(request: IncomingMessage): ClientPace | null {
    return this.paces.get(request) ?? null
  }

  /**
   * One message of a client without a connection that could be held back; `user`: whose session it is, which the request need not say.
   * Throws TOO_MANY_REQUESTS: it is not taken.
   */
  message(request: IncomingMessage, session: object, user: string | null): void {
    if (!this.active || isListed(clientAddress(request), this.rules.exempt)) return
    const pace = this.paces.get(request) ?? null
    const own = this.ownPace(session)
    const { messages } = this.limiters.user
    const isNamed = user === null || identityOf(request) !== null
    const users = isNamed ? null : (messages?.get(user) ?? null)
    const now = this.options.gateway.now()
    const retryAfterMs = Math.max(pace?.waitMs() ?? 0, own?.waitMs(now) ?? 0, users?.waitMs(now) ?? 0)
    if (retryAfterMs > 0) {
      const text = 'this client sends more messages than it may; try again later'
      this.refuse('connection-messages', 'TOO_MANY_REQUESTS', text, { retryAfterMs, closes: false })
    }
    pace?.take()
    own?.take(now)
    users?.take(now)
  }

  /**
   * What the request has opened goes on without its connection, as sessions of Engine.IO that poll: it counts until the function that is
   * returned is called.
   */
  outlives(request: IncomingMessage): () => void {
    return this.open.keep(request)
  }

  refused(reason: RefusalReason): void {
    const { refused } = this.options.gateway.counters
    refused[reason] = (refused[reason] ?? 0) + 1
  }

  close(): void {
    this.limiters.close()
  }

  private ownPace(session: object): MessagePace | null {
    const { messages } = this.rules.perConnection
    if (messages === undefined) return null
    let pace = this.posts.get(session)
    if (pace === undefined) {
      pace = new MessagePace(messages, this.rules.patienceMs, this.options.gateway.now())
      this.posts.set(session, pace)
    }
    return pace
  }

  private adopt(rules: RateLimits): void {
    // What was used up stays so when other settings change.
    if (!isDeepStrictEqual(rules, this.rules)) {
      this.limiters.close()
      this.limiters = this.limitersOf(rules)
    }
    this.rules = rules
    this.active = limitsAnything(rules)
  }

  private limitersOf(rules: RateLimits): Limiters {
    const { now, cluster } = this.options.gateway
    return new Limiters(rules, now, cluster.limiter)
  }

  /** Throws TOO_MANY_REQUESTS. */
  private charge(asking: Asking): void {
    const { kind, carrier, keys } = asking
    for (const one of keys) {
      if (isOpening(kind)) this.takeRate(one, 'newConnections')
      if (isRequest(asking)) this.takeRate(one, 'requests', carrier)
    }
  }

  private admitted(asking: Asking): void {
    const opens = isOpening(asking.kind)
    if (opens) this.count(asking)
    if (opens || asking.kind === 'message') this.setPace(asking, opens)
  }

  private async ask(
    limiter: Limiter,
    { state, key }: Key,
    what: 'newConnections' | 'requests',
  ): Promise<void> {
    const { allowed, resetMs } = await limiter.consume(key, 1)
    if (!allowed) this.tooMany(state, what, { left: 0, waitMs: resetMs })
  }

  /** Connections at once. Throws TOO_MANY_REQUESTS, OVERLOADED. */
  private assertRoom({ keys }: Asking): void {
    for (const one of keys) this.assertRoomOf(one)
    const { connections } = this.rules.gateway
    if (connections === undefined || this.open.of('') < connections) return
    const retryAfterMs = this.spread(connectionsRetryMs)
    const text = 'the gateway has as many connections as it may'
    this.refuse('gateway-connections', 'OVERLOADED', text, { retryAfterMs })
  }

  private assertRoomOf({ state, key }: Key): void {
    const most = state.limits.connections
    if (most === undefined || this.open.of(countKey(state, key)) < most) return
    const retryAfterMs = this.spread(connectionsRetryMs)
    const text = `at most ${most} connections at once of one ${nameOf(state)}`
    this.refuse(`${state.scope}-connections`, 'TOO_MANY_REQUESTS', text, { retryAfterMs })
  }

  /** The whole gateway's. Throws OVERLOADED. */
  private takeAccept(): void {
    const { accepts } = this.limiters
    if (accepts === null) return
    const now = this.options.gateway.now()
    if (accepts.bucket.take(now)) return
    const retryAfterMs = accepts.slots.take(now, this.random())
    const text = 'too many clients connect at once; try again later'
    this.refuse('gateway-new-connections', 'OVERLOADED', text, { retryAfterMs })
  }

  private takeRate(
    { state, key }: Key,
    what: 'newConnections' | 'requests',
    carrier?: Asking['carrier'],
  ): void {
    const bucket = state[what]?.get(key)
    if (bucket === undefined) return
    const now = this.options.gateway.now()
    const taken = bucket.take(now)
    const quota = { left: bucket.left(now), waitMs: bucket.waitMs(now) }
    if (!taken) this.tooMany(state, what, quota)
    if (carrier !== undefined && 'setHeader' in carrier)
      tell(carrier, { name: state.scope, rate: bucket.rate, ...quota })
  }

  private tooMany(
    state: ScopeState,
    what: 'newConnections' | 'requests',
    { left, waitMs }: Pick<Quota, 'left' | 'waitMs'>,
  ): never {
    const rate = state.limits[what]!
    const [reason, noun] =
      what === 'requests'
        ? (['requests', 'requests'] as const)
        : (['new-connections', 'connections'] as const)
    const text = `more than ${rate.perSecond} ${noun} a second of one ${nameOf(state)}; try again later`
    const headers = rateHeaders({ name: state.scope, rate, left, waitMs })
    // Those who are told the same time shall not come back as one.
    const retryAfterMs = waitMs + this.random() * 1_000
    this.refuse(`${state.scope}-${reason}`, 'TOO_MANY_REQUESTS', text, {
      retryAfterMs,
      headers,
      closes: what !== 'requests',
    })
  }

  private count({ request, carrier, keys }: Asking): void {
    const names = keys.flatMap(({ state, key }) =>
      state.limits.connections === undefined ? [] : [countKey(state, key)],
    )
    const isFirst = keys[0]!.state.scope === 'ip'
    if (isFirst && this.rules.gateway.connections !== undefined) names.push('')
    this.open.add(request, carrier, names)
  }

  /** `own`: the request opens a connection, which has a pace by itself. */
  private setPace({ request, keys }: Asking, own: boolean): void {
    const { rules } = this
    const { now } = this.options.gateway
    const { messages } = rules.perConnection
    const known = this.paces.get(request)
    const paces: ScopedPace[] = []
    if (known === undefined && own && messages !== undefined)
      paces.push({ scope: 'connection', pace: new MessagePace(messages, rules.patienceMs, now()) })
    for (const { state, key } of keys)
      if (state.messages !== null) paces.push({ scope: state.scope, pace: state.messages.get(key) })
    if (paces.length === 0) return
    if (known !== undefined) known.add(paces)
    else this.paces.set(request, new ClientPace(paces, now, (scope) => this.refused(`${scope}-messages`)))
  }

  private refuse(
    reason: RefusalReason,
    code: 'FORBIDDEN' | 'TOO_MANY_REQUESTS' | 'OVERLOADED',
    message: string,
    details: RefusalDetails,
  ): never {
    this.refused(reason)
    throw new Refusal(code, message, details)
  }

  private spread({ least, spread }: { least: number; spread: number }): number {
    return least + this.random() * spread
  }

  private random(): number {
    return (this.options.random ?? Math.random)()
  }
}

/** With one refusal the others do not matter; none of them may be left unheard. */
async function allOf(asked: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(asked)
  const refused = results.find((result) => result.status === 'rejected')
  if (refused !== undefined) throw refused.reason
}

/** What counts as a request: whatever is asked for but connections that stay. */
function isRequest({ kind, request }: Asking): boolean {
  return (!isOpening(kind) || kind === 'run') && request.method !== 'OPTIONS'
}

function kindOf(
  request: IncomingMessage,
  carrier: ServerResponse | Socket,
  { local, route, isProxied }: Target,
): RequestKind {
  const { headers, method = '', url = '' } = request
  return kindOfRequest({
    method,
    path: local,
    query: splitTarget(url)[1],
    routed: !isProxied ? null : route?.protocol === 'llm' ? 'llm' : 'http',
    upgrade: !('setHeader' in carrier),
    wantsEvents: (headers.accept ?? '').includes('text/event-stream'),
    lastEventId: String(headers['last-event-id'] ?? ''),
    subprotocols: headers['sec-websocket-protocol'] ?? '',
  })
}

/** The path that its clients name, whatever is below it. */
function routeKey({ path, route }: Target): string {
  if (route !== null) return route.name ?? `${route.host ?? ''}${route.path}`
  const base = path.split('/', 2)[1]!
  return ownPaths.has(base) ? `/${base}` : ''
}

function countKey({ scope }: ScopeState, key: string): string {
  return `${scope} ${key}`
}

function nameOf({ scope }: ScopeState): string {
  return scope === 'ip' ? 'address' : scope
}

/** Of several limits, the client is told that of which the least is left. */
function tell(response: ServerResponse, quota: Quota): void {
  const before = /;r=(\d+)/.exec(String(response.getHeader('ratelimit') ?? ''))?.[1]
  if (before !== undefined && Number(before) <= quota.left) return
  for (const [name, value] of Object.entries(rateHeaders(quota))) response.setHeader(name, value)
}
