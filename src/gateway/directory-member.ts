import { ProbeState } from '../core/health/probe.ts'
import { originOfUrl } from '../core/net/upstream-url.ts'
import type { DrainOrder } from '../protocol/link-records.ts'
import type {
  ProbeSettings,
  Upstream,
  UpstreamAddress,
  UpstreamOrigin,
  UpstreamView,
} from './upstream-directory.ts'

/** What a list says of an upstream. */
export interface UpstreamSpec {
  readonly id: string
  readonly pool: string
  readonly url: URL
  readonly weight: number
  readonly origin: UpstreamOrigin
  /** Of an upstream that DNS found; of others it is yet to be looked up. */
  readonly address: string | null
  /** Whether loopback is meant: see `AddressRules`. */
  readonly loopback: boolean
}

/** One upstream of the directory: what its list says, where it is, how it is. */
export class DirectoryMember {
  /** A newer one differs in weight only. */
  spec: UpstreamSpec
  readonly probe: ProbeState
  address: UpstreamAddress | null = null
  /** Why there is no address, or no newer one. */
  problem: string | null = null
  weight: number
  drain: DrainOrder | null = null
  /** The latest that listeners were told; null: it was not added yet. */
  published: Upstream | null = null
  /** When its name is looked up again, unless that is under way. */
  lookAt = Number.NEGATIVE_INFINITY
  looking = false
  /** The probe under way, so that the answer to one that was given up is known. */
  running: object | null = null
  /** A probe has ended, whatever it said. */
  probed = false

  constructor(spec: UpstreamSpec, settings: ProbeSettings, nowMs: number) {
    this.spec = spec
    this.probe = new ProbeState(settings, nowMs)
    this.weight = spec.weight
  }

  get id(): string {
    return this.spec.id
  }

  snapshot(address: UpstreamAddress, healthy: boolean): Upstream {
    const { id, pool, origin, url } = this.spec
    return { id, pool, origin, url, address, weight: this.weight, drain: this.drain, healthy }
  }

  view(ejection: string | null): UpstreamView {
    const { id, pool, origin, url } = this.spec
    const { address, weight, drain } = this
    const base = { id, pool, url: originOfUrl(url), origin, weight, drain }
    if (address === null) {
      const reason = this.problem ?? 'its name is not looked up yet'
      return { ...base, address: null, health: 'unresolved', reason }
    }
    const at = address.host.includes(':')
      ? `[${address.host}]:${address.port}`
      : `${address.host}:${address.port}`
    if (!this.probe.healthy) return { ...base, address: at, health: 'unhealthy', reason: this.probe.reason }
    if (ejection !== null) return { ...base, address: at, health: 'ejected', reason: ejection }
    return { ...base, address: at, health: 'healthy', reason: null }
  }
}
