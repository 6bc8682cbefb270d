import type { IncomingMessage } from 'node:http'
import { type Shown, shownToken, withoutToken } from '../../core/identity/shown-token.ts'
import { enginePath, engineSid } from '../../protocol/engine-paths.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { clientAddress, splitTarget } from '../request-meta.ts'
import type { EdgeSettings, Target } from '../target.ts'
import type { AuthorizeHook } from './authorize-hook.ts'
import type { Identification } from './identification.ts'
import type { AuthOutcome, Identity } from './identity.ts'
import { type Sender, senderOf, setSender } from './sender.ts'
import { TokenRefused } from './verifier.ts'

export type AuthCounters = Record<AuthOutcome, number>

/** Finds out who sends the request. What it finds, refusals too, waits for `admit`: a route may ask nobody. */
export async function identify(
  request: IncomingMessage,
  { identification }: EdgeSettings,
  counters: AuthCounters,
): Promise<void> {
  if (identification === null) return
  const { verifier, places, cookie } = identification.options
  // With a session that is there, the header is likely to hold the token of that.
  const others = places.filter((place) => place !== 'header')
  const lookedAt = goesOn(request) ? [...others, ...places] : places
  const isSilent = verifier === null || isOfNobody(request)
  const shown = isSilent ? null : shownToken(partsOf(request), lookedAt, cookie)
  let identity: Identity | null = null
  let refused: TokenRefused | null = null
  if (shown !== null) {
    try {
      identity = await verifier!.verify(shown.token)
    } catch (error) {
      if (!(error instanceof TokenRefused)) throw error
      refused = error
    }
  }
  setSender(request, {
    identification,
    identity,
    refused,
    canRefresh: shown?.place === 'subprotocol' || shown?.place === 'header',
    count: (outcome) => counters[outcome]++,
    turnedAway: null,
  })
}

/**
 * Lets the request in, as who it was found to be, or not. From here on it shows no token any more.
 * Throws UNAUTHORIZED, FORBIDDEN, NOT_READY.
 */
export async function admit(request: IncomingMessage, target: Target): Promise<Target> {
  const sender = senderOf(request)
  if (sender === null || isOfNobody(request)) return target
  try {
    return await letIn(request, target, sender)
  } catch (error) {
    sender.turnedAway = error
    throw error
  }
}

async function letIn(request: IncomingMessage, target: Target, sender: Sender): Promise<Target> {
  const { identification, refused, count } = sender
  const rule = target.route?.auth ?? (identification.options.required ? 'required' : 'optional')
  if (rule === 'none') {
    sender.identity = null
    return { ...target, identity: null }
  }
  const isOfSession = !target.isProxied && goesOn({ url: target.local + queryOf(request) })
  hideToken(request, identification, isOfSession)
  // Whoever goes on was let in before, and shows what it got then.
  if (isOfSession) return target
  if (refused !== null) {
    count(refused.outcome)
    throw refused
  }
  const { hook } = identification.options
  const asked = hook === null ? target : await askHook(request, target, sender, hook)
  if (sender.identity === null && rule === 'required') {
    count('missing')
    throw new EvenkeelError('UNAUTHORIZED', 'a token is missing: show who you are')
  }
  count('ok')
  return { ...asked, identity: sender.identity }
}

async function askHook(
  request: IncomingMessage,
  target: Target,
  sender: Sender,
  hook: AuthorizeHook,
): Promise<Target> {
  const { identity, count, identification } = sender
  const answer = await hook.ask({
    path: target.path,
    host: request.headers.host ?? '',
    headers: pick(request, hook.headers),
    address: clientAddress(request),
    user: identity?.user ?? null,
    claims: identity?.claims ?? null,
    transport: transportOf(request, target),
  })
  if (answer.verdict === 'deny') {
    count('denied')
    throw new EvenkeelError(answer.status === 401 ? 'UNAUTHORIZED' : 'FORBIDDEN', answer.reason)
  }
  if (answer.verdict === 'none') {
    if (hook.failOpen) return target
    count('unavailable')
    throw new EvenkeelError('NOT_READY', 'whether you may come in cannot be found out now; try again')
  }
  const { user, claims, pool } = answer
  const named = user ?? identity?.user
  if (named !== undefined) {
    sender.identity = {
      user: named,
      subject: identity?.subject ?? named,
      claims: claims ?? identity?.claims ?? {},
      validity: identity?.validity ?? null,
    }
  }
  if (pool === null || pool === target.pool) return target
  // Routes are served by servers that are known by URL, all else by nodes.
  if (identification.options.isOfUpstreams(pool) !== target.isProxied) {
    count('unavailable')
    throw new EvenkeelError('NOT_READY', 'the pool that was named cannot serve this path')
  }
  const { route, settings } = target
  return {
    ...target,
    pool,
    route: route === null ? null : { ...route, pool },
    persistence: settings.persistence.get(pool) ?? null,
  }
}

/** Asked of the gateway itself; and browsers ask whether they may ask without saying who they are (Fetch §3.2.2). */
function isOfNobody({ method, url = '', headers }: IncomingMessage): boolean {
  const [path] = splitTarget(url)
  if (path === '/healthz' || path === '/readyz') return true
  return method === 'OPTIONS' && headers['access-control-request-method'] !== undefined
}

/** Where no route leads to upstreams: the request belongs to a session or a connection that is there, and shows what that was given. */
function goesOn({ url = '' }: Pick<IncomingMessage, 'url'>): boolean {
  const [path, query] = splitTarget(url)
  if (enginePath(path) !== null) return engineSid(query) !== null
  return path.startsWith('/sse/') && path !== '/sse/v1'
}

function queryOf({ url = '' }: IncomingMessage): string {
  const at = url.indexOf('?')
  return at === -1 ? '' : url.slice(at)
}

function transportOf(request: IncomingMessage, { local, isProxied }: Target): string {
  const engine = isProxied ? null : enginePath(local)
  if (engine !== null) return engine.slice(1, -1)
  if (request.headers.upgrade !== undefined) return 'websocket'
  return !isProxied && local === '/sse' ? 'sse' : 'http'
}

function pick({ headers }: IncomingMessage, names: readonly string[]): Record<string, string> {
  const picked: Record<string, string> = Object.create(null)
  for (const name of names) {
    const value = headers[name]
    if (value !== undefined) picked[name] = String(value)
  }
  return picked
}

function partsOf({ headers, url = '' }: IncomingMessage): Shown {
  return {
    authorization: headers.authorization ?? '',
    cookie: headers.cookie ?? '',
    subprotocols: headers['sec-websocket-protocol'] ?? '',
    query: splitTarget(url)[1],
  }
}

/** Those behind the gateway learn who the user is, and cannot act in the user's name elsewhere. */
function hideToken(request: IncomingMessage, { options }: Identification, isOfSession: boolean): void {
  const { verifier, cookie, passOn } = options
  if (verifier === null) return
  const places = options.places.filter((place) => !(place === 'header' && (passOn || isOfSession)))
  const before = partsOf(request)
  const after = withoutToken(before, places, cookie)
  const [path] = splitTarget(request.url!)
  request.url = after.query === '' ? path : `${path}?${after.query}`
  const changed = new Map<string, string>()
  if (after.authorization !== before.authorization) changed.set('authorization', after.authorization)
  if (after.cookie !== before.cookie) changed.set('cookie', after.cookie)
  if (after.subprotocols !== before.subprotocols) changed.set('sec-websocket-protocol', after.subprotocols)
  if (changed.size > 0) replaceHeaders(request, changed)
}

/** '' takes a header away. */
function replaceHeaders(request: IncomingMessage, changed: ReadonlyMap<string, string>): void {
  const { headers, rawHeaders } = request
  const kept: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    if (!changed.has(rawHeaders[i]!.toLowerCase())) kept.push(rawHeaders[i]!, rawHeaders[i + 1]!)
  for (const [name, value] of changed) {
    delete headers[name]
    if (value === '') continue
    headers[name] = value
    kept.push(name, value)
  }
  request.rawHeaders = kept
}
