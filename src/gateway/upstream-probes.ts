import { StallDetector } from '../core/health/heartbeat.ts'
import { OutlierDetector } from '../core/health/outlier.ts'
import type { ProxyProtocolVersion } from '../core/net/proxy-protocol.ts'
import type { DirectoryMember } from './directory-member.ts'
import type {
  ProbeSettings,
  UpstreamAddress,
  UpstreamCounters,
  UpstreamOutcome,
} from './upstream-directory.ts'

export interface ProbeTarget {
  url: URL
  /** What is to be dialled. */
  address: UpstreamAddress
  /** null: a TCP connection is enough. */
  path: string | null
  /** See `ProbeSettings`. */
  proxyProtocol: ProxyProtocolVersion | null
}

export interface UpstreamProbesOptions {
  members: ReadonlyMap<string, DirectoryMember>
  settings: (pool: string) => ProbeSettings
  /** Looks at a server once. Resolves null, or why it is not alive, soon after `timeoutMs` at the latest; never rejects. */
  probe: (target: ProbeTarget, timeoutMs: number) => Promise<string | null>
  now: () => number
  random: () => number
  /** The health of these may have changed. */
  changed(ids: readonly string[]): void
}

/** The pace in which `tick` is to be called. */
export const probeTickMs = 100
/** A tick that is later than this was a stall of this process. */
const stallMs = 500
const probesAtOnce = 256

/** Probes upstreams, and judges them by that and by what their traffic meets. */
export class UpstreamProbes {
  readonly counters: UpstreamCounters = {
    probes: { success: 0, failure: 0, void: 0 },
    ejections: { 'connect-failed': 0, 'error-response': 0, broken: 0 },
  }
  private readonly options: UpstreamProbesOptions
  private readonly stall = new StallDetector(probeTickMs, stallMs)
  private readonly pools = new Map<string, OutlierDetector>()
  private running = 0

  constructor(options: UpstreamProbesOptions) {
    this.options = options
  }

  add({ id, spec }: DirectoryMember): void {
    let pool = this.pools.get(spec.pool)
    if (pool === undefined) {
      pool = new OutlierDetector()
      this.pools.set(spec.pool, pool)
    }
    this.options.changed(pool.add(id, this.options.now()))
  }

  remove(member: DirectoryMember): void {
    member.running = null
    this.options.changed(this.pools.get(member.spec.pool)?.remove(member.id) ?? [])
  }

  /** Why the upstream is not to be used; null when it is. */
  refusal(member: DirectoryMember): string | null {
    return member.probe.healthy ? this.ejection(member) : member.probe.reason
  }

  ejection({ id, spec }: DirectoryMember): string | null {
    const ejection = this.pools.get(spec.pool)?.ejectionOf(id) ?? null
    return ejection === null ? null : ejectionReasons[ejection.cause]
  }

  report(member: DirectoryMember, outcome: UpstreamOutcome): void {
    const now = this.options.now()
    // What failed may only have been waiting for this process.
    if (outcome !== 'ok' && this.stall.isLate(now)) return
    if (outcome === 'connect-failed' || outcome === 'broken') member.probe.hurry(now)
    if (this.pools.get(member.spec.pool)?.report(member.id, outcome, now) !== true) return
    if (outcome !== 'ok') this.counters.ejections[outcome]++
    this.options.changed([member.id])
  }

  tick(): void {
    const now = this.options.now()
    if (this.stall.tick(now)) this.recover(now)
    const due = [...this.options.members.values()].filter(({ probe }) => probe.isDue(now))
    // The first ones may be due again before the last ones had their turn.
    if (due.length > probesAtOnce - this.running)
      due.sort((a, b) => b.probe.overdueMs(now) - a.probe.overdueMs(now))
    for (const member of due) this.probeIfDue(member, now)
    for (const pool of this.pools.values()) this.options.changed(pool.expire(now))
  }

  probeIfDue(member: DirectoryMember, now = this.options.now()): void {
    const { address, probe, spec } = member
    if (address === null || this.running >= probesAtOnce || !probe.isDue(now)) return
    const { path, timeoutMs, proxyProtocol = null } = this.options.settings(spec.pool)
    probe.begin(now, this.options.random())
    const run = {}
    member.running = run
    this.running++
    void this.options.probe({ url: spec.url, address, path, proxyProtocol }, timeoutMs).then((failure) => {
      this.running--
      if (member.running === run) this.ended(member, failure)
    })
  }

  /** Probes under way say nothing, nor does what connections have met. */
  private recover(now: number): void {
    for (const member of this.options.members.values()) if (member.running !== null) this.void(member, now)
    for (const pool of this.pools.values()) pool.forgetEvidence()
  }

  private ended(member: DirectoryMember, failure: string | null): void {
    const now = this.options.now()
    if (failure !== null && this.stall.isLate(now)) {
      this.void(member, now)
      return
    }
    member.running = null
    member.probed = true
    member.probe.end(failure)
    this.counters.probes[failure === null ? 'success' : 'failure']++
    const pool = this.pools.get(member.spec.pool)
    // A failure alone says neither: the one before may have been a success.
    const back = failure === null || !member.probe.healthy ? pool?.probed(member.id, failure === null) : []
    this.options.changed([member.id, ...(back ?? [])])
  }

  private void(member: DirectoryMember, now: number): void {
    member.running = null
    member.probe.void(now)
    this.counters.probes.void++
  }
}

const ejectionReasons = {
  'connect-failed': 'connections to it fail',
  'error-response': 'it answers with errors',
  broken: 'it cuts connections',
} as const
