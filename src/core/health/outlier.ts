export interface OutlierRules {
  /** Failed connections in a row until an upstream is ejected; the next successful probe takes it back. */
  readonly connectFailures: number
  /** Answers with 5xx in a row until it is ejected for a time. */
  readonly errorResponses: number
  /** Cuts in a row until it is ejected for a time. Those within `cutWindowMs` are one: a process that ends cuts all it has at once. */
  readonly cuts: number
  readonly cutWindowMs: number
  /** How long the first ejection lasts; each further one twice as long … */
  readonly ejectMs: number
  /** … but not longer than this. */
  readonly ejectMaxMs: number
  /** After this long without an ejection, the next one is half as long again. */
  readonly calmMs: number
}

export const defaultOutlierRules: OutlierRules = {
  connectFailures: 3,
  errorResponses: 5,
  cuts: 5,
  cutWindowMs: 1_000,
  ejectMs: 10_000,
  ejectMaxMs: 300_000,
  calmMs: 60_000,
}

export type Outcome = 'ok' | 'connect-failed' | 'error-response' | 'broken'

export interface Ejection {
  readonly cause: Exclude<Outcome, 'ok'>
  /** null: until a probe succeeds. */
  readonly untilMs: number | null
}

interface Member {
  down: boolean
  ejection: Ejection | null
  connectFailures: number
  errorResponses: number
  cuts: number
  cutAt: number
  /** How often the next ejection's time is doubled. */
  level: number
  calmSince: number
}

/**
 * Judges the upstreams of one pool by what their traffic meets. Together with those that are down it never takes more than half of the pool away:
 * beyond that the fault is more likely in what is asked than in who is asked.
 */
export class OutlierDetector {
  private readonly rules: OutlierRules
  private readonly members = new Map<string, Member>()

  constructor(rules: OutlierRules = defaultOutlierRules) {
    this.rules = rules
  }

  /** It counts as down until a probe has succeeded. Returns the ids that are back because of it. */
  add(id: string, nowMs: number): string[] {
    this.members.set(id, {
      down: true,
      ejection: null,
      connectFailures: 0,
      errorResponses: 0,
      cuts: 0,
      cutAt: Number.NEGATIVE_INFINITY,
      level: 0,
      calmSince: nowMs,
    })
    return this.keepHalf()
  }

  /** Returns the ids that are back because of it. */
  remove(id: string): string[] {
    this.members.delete(id)
    return this.keepHalf()
  }

  ejectionOf(id: string): Ejection | null {
    return this.members.get(id)?.ejection ?? null
  }

  /** Returns true when the upstream is ejected by this. Unknown ids are ignored. */
  report(id: string, outcome: Outcome, nowMs: number): boolean {
    const member = this.members.get(id)
    if (member === undefined || member.ejection !== null) return false
    if (outcome === 'ok') {
      clearEvidence(member)
      return false
    }
    count(member, outcome, nowMs, this.rules)
    const cause = causeIn(member, this.rules)
    if (cause === null || this.missing() + 1 > this.members.size / 2) return false
    this.eject(member, cause, nowMs)
    return true
  }

  /** What probes say. Returns the ids that are back because of it. */
  probed(id: string, healthy: boolean): string[] {
    const member = this.members.get(id)
    if (member === undefined) return []
    member.down = !healthy
    if (healthy && member.ejection !== null && member.ejection.untilMs === null) {
      member.ejection = null
      return [id]
    }
    return this.keepHalf()
  }

  /** To be called now and then. Returns the ids whose time is over. */
  expire(nowMs: number): string[] {
    const back: string[] = []
    for (const [id, member] of this.members) {
      const { ejection } = member
      if (ejection?.untilMs == null || ejection.untilMs > nowMs) continue
      member.ejection = null
      member.calmSince = nowMs
      back.push(id)
    }
    return back
  }

  /** This process was stalled: what its connections met meanwhile says nothing about the other side. */
  forgetEvidence(): void {
    for (const member of this.members.values()) clearEvidence(member)
  }

  private eject(member: Member, cause: Ejection['cause'], nowMs: number): void {
    clearEvidence(member)
    if (cause === 'connect-failed') {
      member.ejection = { cause, untilMs: null }
      return
    }
    const { ejectMs, ejectMaxMs, calmMs } = this.rules
    const calm = Math.floor((nowMs - member.calmSince) / calmMs)
    const level = Math.max(0, member.level - calm)
    const ms = Math.min(ejectMaxMs, ejectMs * 2 ** level)
    // Beyond the longest time there is nothing to count, nor to take back.
    member.level = ms < ejectMaxMs ? level + 1 : level
    member.calmSince = nowMs
    member.ejection = { cause, untilMs: nowMs + ms }
  }

  private missing(): number {
    let missing = 0
    for (const { down, ejection } of this.members.values()) if (down || ejection !== null) missing++
    return missing
  }

  /** Takes ejections back while they and those that are down are more than half; the one that ends first goes first. */
  private keepHalf(): string[] {
    const back: string[] = []
    while (this.missing() > this.members.size / 2) {
      const ejected = [...this.members].filter(([, { down, ejection }]) => ejection !== null && !down)
      const [first] = ejected.toSorted(([, a], [, b]) => endOf(a) - endOf(b))
      if (first === undefined) break
      first[1].ejection = null
      back.push(first[0])
    }
    return back
  }
}

function endOf({ ejection }: Member): number {
  return ejection?.untilMs ?? Number.NEGATIVE_INFINITY
}

function count(
  member: Member,
  outcome: Ejection['cause'],
  nowMs: number,
  { cutWindowMs }: OutlierRules,
): void {
  if (outcome === 'connect-failed') member.connectFailures++
  else if (outcome === 'error-response') member.errorResponses++
  else if (nowMs - member.cutAt >= cutWindowMs) {
    member.cuts++
    member.cutAt = nowMs
  }
}

function causeIn(member: Member, rules: OutlierRules): Ejection['cause'] | null {
  if (member.connectFailures >= rules.connectFailures) return 'connect-failed'
  if (member.errorResponses >= rules.errorResponses) return 'error-response'
  return member.cuts >= rules.cuts ? 'broken' : null
}

function clearEvidence(member: Member): void {
  member.connectFailures = 0
  member.errorResponses = 0
  member.cuts = 0
}
