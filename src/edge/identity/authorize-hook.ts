import { createHash } from 'node:crypto'
import { Agent } from 'undici'
import { Breaker } from '../../core/identity/breaker.ts'
import type { Claims } from '../../core/identity/claims.ts'
import { userOf } from '../../core/identity/claims.ts'
import { isName } from '../../protocol/link-records.ts'

export interface AuthorizeRules {
  readonly url: URL
  /** From the request to the last byte of the answer. */
  readonly timeoutMs: number
  /** For how long an answer counts for the same question. 0: not at all. */
  readonly cacheMs: number
  /** Whether clients are let in when nobody answers. */
  readonly failOpen: boolean
  /** Names of the client's headers that go along, in lower case. */
  readonly headers: readonly string[]
}

/** What is asked, as it is sent. */
export interface AuthorizeQuestion {
  readonly path: string
  readonly host: string
  readonly headers: Readonly<Record<string, string>>
  readonly address: string
  readonly user: string | null
  readonly claims: Claims | null
  readonly transport: string
}

export type AuthorizeAnswer =
  | {
      readonly verdict: 'allow'
      readonly user: string | null
      readonly claims: Claims | null
      readonly pool: string | null
    }
  | { readonly verdict: 'deny'; readonly status: 401 | 403; readonly reason: string }
  /** Nobody has answered, or not as it should be. */
  | { readonly verdict: 'none' }

const none: AuthorizeAnswer = { verdict: 'none' }
/** Questions under way at once, and those that wait for one of them to be answered. */
const askingMost = 64
const waitingMost = 1_024
const answerBytes = 16 * 1024
const reasonLength = 120
const cachedMost = 10_000
const breakerRules = { failures: 5, restMs: 5_000 }

/** Asks a server of the operator's whether a client may come in. */
export class AuthorizeHook {
  private readonly rules: AuthorizeRules
  private readonly agent = new Agent({ connections: askingMost, pipelining: 1 })
  private readonly breaker = new Breaker(breakerRules)
  /** The oldest first. */
  private readonly cache = new Map<string, { answer: AuthorizeAnswer; until: number }>()
  private asking = 0
  private readonly waiting: (() => void)[] = []

  constructor(rules: AuthorizeRules) {
    this.rules = rules
  }

  get failOpen(): boolean {
    return this.rules.failOpen
  }

  get headers(): readonly string[] {
    return this.rules.headers
  }

  async ask(question: AuthorizeQuestion): Promise<AuthorizeAnswer> {
    const body = JSON.stringify(question)
    const key = this.rules.cacheMs === 0 ? '' : createHash('sha256').update(body).digest('base64url')
    const known = this.cache.get(key)
    if (known !== undefined && known.until > performance.now()) return known.answer
    if (!(await this.place())) return none
    try {
      const answer = await this.answerTo(body)
      if (key !== '' && answer.verdict !== 'none') this.remember(key, answer)
      return answer
    } finally {
      this.asking--
      this.waiting.shift()?.()
    }
  }

  /** False: too many ask already. */
  private async place(): Promise<boolean> {
    if (this.asking >= askingMost) {
      if (this.waiting.length >= waitingMost) return false
      await new Promise<void>((resolve) => this.waiting.push(resolve))
    }
    this.asking++
    return true
  }

  private async answerTo(body: string): Promise<AuthorizeAnswer> {
    const { breaker } = this
    if (!breaker.mayAsk(performance.now())) return none
    try {
      const answer = await this.post(body)
      breaker.succeeded()
      return answer
    } catch {
      breaker.failed(performance.now())
      return none
    }
  }

  /** Throws for everything that is no answer. Redirects are none. */
  private async post(body: string): Promise<AuthorizeAnswer> {
    const { url, timeoutMs } = this.rules
    const { statusCode, body: stream } = await this.agent.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body,
      signal: AbortSignal.timeout(timeoutMs),
    })
    const text = await textOf(stream)
    if (statusCode === 200) return allowed(text)
    if (statusCode === 401 || statusCode === 403)
      return { verdict: 'deny', status: statusCode, reason: reasonOf(text) }
    throw new Error(`status ${statusCode}`)
  }

  private remember(key: string, answer: AuthorizeAnswer): void {
    const { cache } = this
    cache.delete(key)
    cache.set(key, { answer, until: performance.now() + this.rules.cacheMs })
    if (cache.size > cachedMost) cache.delete(cache.keys().next().value!)
  }
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    bytes += chunk.length
    if (bytes > answerBytes) throw new Error(`more than ${answerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** Throws for what is not as it should be: half understood, it might let in whom it did not mean. */
function allowed(text: string): AuthorizeAnswer {
  const given: unknown = text.trim() === '' ? {} : JSON.parse(text)
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw new Error('no object')
  const { user, claims, pool } = given as Record<string, unknown>
  const named = user === undefined || user === null ? null : userOf({ user }, 'user')
  if (named === null && user !== undefined && user !== null) throw new Error('user is no user')
  if (claims !== undefined && (typeof claims !== 'object' || claims === null || Array.isArray(claims)))
    throw new Error('claims is no object')
  if (pool !== undefined && !isName(pool)) throw new Error('pool is no name')
  return {
    verdict: 'allow',
    user: named,
    claims: (claims as Claims | undefined) ?? null,
    pool: (pool as string | undefined) ?? null,
  }
}

/** What the client may be told: printable, and short enough for a close frame. */
function reasonOf(text: string): string {
  let reason: unknown
  try {
    reason = (JSON.parse(text) as { reason?: unknown }).reason
  } catch {
    // A page that is meant for people says nothing here.
  }
  const said = typeof reason === 'string' ? reason.replace(/\p{Cc}+/gu, ' ').trim() : ''
  return said === '' ? 'not allowed' : said.slice(0, reasonLength)
}
