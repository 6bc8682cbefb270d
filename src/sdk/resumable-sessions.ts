import { CloseCode } from '../protocol/close-codes.ts'
import type { Drop, Found, Refusal, Seek } from '../protocol/link-records.ts'
import type { ResumableSession } from './resumable-session.ts'
import type { NodeSession } from './session.ts'
import { nowhere, type SessionHost } from './session-host.ts'

export interface ResumableSessionsOptions {
  now: () => number
  failed(session: NodeSession, error: unknown, where: string): void
  /** There are fewer sessions without a link, or fewer that a client can still come back to. */
  orphansChanged(): void
}

interface Orphan {
  /** When it ends if nobody takes it. */
  readonly until: number
  /** The gateway process whose link it has lost; null when another gateway looks for it since. */
  readonly instance: string | null
}

/**
 * The resumable sessions of a node, whatever their links are: a gateway may look for one that was another's.
 * Of one id several may be here: one that is live, and those that links have prepared.
 */
export class ResumableSessions {
  private readonly options: ResumableSessionsOptions
  private readonly byId = new Map<string, ResumableSession[]>()
  /** Those without a link. */
  private readonly orphans = new Map<ResumableSession, Orphan>()

  constructor(options: ResumableSessionsOptions) {
    this.options = options
  }

  get orphanCount(): number {
    return this.orphans.size
  }

  /** There is a session without a link to which its client can still come back. */
  get isAwaited(): boolean {
    for (const session of this.orphans.keys()) if (session.live) return true
    return false
  }

  add(session: ResumableSession): void {
    const known = this.byId.get(session.id)
    if (known === undefined) this.byId.set(session.id, [session])
    else known.push(session)
  }

  /** The session is over. */
  remove(session: ResumableSession): void {
    const left = this.of(session.id).filter((one) => one !== session)
    if (left.length > 0) this.byId.set(session.id, left)
    else this.byId.delete(session.id)
    this.letGo(session)
  }

  /** 0 when the session is not here. */
  highestTerm(id: string): number {
    return Math.max(0, ...this.of(id).map(({ term }) => term))
  }

  /** Ends what is here of the same session in a lower term. */
  endOlder({ id, term }: ResumableSession): void {
    for (const one of this.of(id)) if (one.term < term) one.supersede()
  }

  /** The link to a gateway is gone. Returns false, and changes nothing, for a session that does not outlive it. */
  keep(session: ResumableSession, instance: string): boolean {
    if (!session.live) return false
    this.detach(session, instance)
    return true
  }

  /** The link to this gateway process is back: it has recovered elsewhere what the former one had. */
  linkUp(instance: string): void {
    for (const [session, orphan] of this.orphans) if (orphan.instance === instance) session.linkLost()
  }

  /** A gateway looks for a session, and gets it when it is here under this token. */
  seek({ seek, session: id, token, next, user }: Seek): Partial<Found> {
    const shown = this.of(id).filter((one) => (one.live || one.importing) && one.hasToken(token))
    // Whoever has come by another's token changes nothing.
    if (shown.some(({ meta }) => meta.user !== user)) return { seek, term: 0, reason: 'user' }
    const prepared = shown.filter((one) => one.importing)
    // Should its gateway open it in spite of the search, two gateways would have the session.
    for (const one of prepared) one.supersede()
    const live = this.of(id).find((one) => one.live)
    if (live?.hasToken(token)) {
      live.replaceTokens([next, token])
      live.sayLost()
      this.detach(live, null)
      // Its handlers may have ended it.
      if (live.live) return { seek, term: live.term, live: true }
    }
    if (prepared.length > 0) {
      return { seek, term: Math.max(...prepared.map(({ term }) => term)), live: false }
    }
    const isHere = this.of(id).some((one) => one.live || one.importing)
    return { seek, term: 0, reason: isHere ? 'token' : 'unknown' }
  }

  /** For a gateway that takes the session in this term, for a client that has all outputs up to `out`: without a link, or why not. */
  forTaking(id: string, term: number, out: number): ResumableSession | Refusal {
    const stale: Refusal = { code: 'STALE', message: `the session is not here in a term below ${term}` }
    const live = this.of(id).find((one) => one.live)
    if (live === undefined || this.highestTerm(id) >= term) return stale
    if (!live.reaches(out))
      return { code: 'GAP', message: `not all outputs behind ${out} are here`, out: live.keptFrom }
    if (!this.orphans.has(live)) {
      live.sayLost()
      this.detach(live, null)
    }
    return live.live ? live : stale
  }

  drop({ session: id, term }: Drop): void {
    for (const one of this.of(id)) if (one.term <= term) one.supersede()
  }

  /** Ends what nobody has taken in time. To be called now and then. */
  expire(): void {
    const now = this.options.now()
    let expired = false
    for (const [session, { until }] of this.orphans) {
      if (until > now || !session.live) continue
      expired = true
      session.clientClosed(CloseCode.abnormal, 'the client did not come back')
    }
    if (expired) this.options.orphansChanged()
  }

  /** Ends all that have no link. */
  close(): void {
    for (const session of this.orphans.keys()) session.linkLost()
  }

  private of(id: string): readonly ResumableSession[] {
    return this.byId.get(id) ?? []
  }

  private detach(session: ResumableSession, instance: string | null): void {
    const isOrphan = this.orphans.has(session)
    const until = this.options.now() + session.host.resumeMs
    this.orphans.set(session, { until, instance })
    if (!isOrphan) session.detach(this.hostWithoutLink(session))
  }

  private letGo(session: ResumableSession): void {
    if (this.orphans.delete(session)) this.options.orphansChanged()
  }

  /** The host of a session that has no link: what it writes goes nowhere, and it keeps what it has to write again. */
  private hostWithoutLink(session: ResumableSession): SessionHost {
    const { handlers, atomic, messageBytes, stateBytes, queueBytes, lateOutputMs, resumeMs } = session.host
    return {
      link: nowhere,
      handlers,
      atomic,
      messageBytes,
      stateBytes,
      queueBytes,
      lateOutputMs,
      resumeMs,
      now: this.options.now,
      // The next gateway that looks for the session has it written.
      commitSoon() {},
      waitForDrain() {},
      letGo: () => this.letGo(session),
      forget: () => this.remove(session),
      failed: this.options.failed,
    }
  }
}
