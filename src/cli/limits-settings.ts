import { totalmem } from 'node:os'
import type { OverloadRules } from '../core/health/overload.ts'
import type { RateLimits, ScopeLimits } from '../core/limits/rules.ts'
import type { Rate } from '../core/limits/token-bucket.ts'
import { type Block, parseBlock } from '../core/net/address.ts'
import type { GatewayConfig } from './config-schema.ts'
import { descriptorComplaint, descriptorLimit } from './descriptors.ts'
import type { Logger } from './logger.ts'
import { onlyUpstreams } from './upstream-pools.ts'

/** Part of what a cgroup grants. */
const memoryShare = 0.85
/** So many times what sheds new work cuts new connections. */
const lagToCut = 4
const memoryToCut = 1.1

type ConfiguredScope = GatewayConfig['rateLimits']['perIp']

/** What the configuration says of limits. */
export function rateLimitsOf({ rateLimits }: GatewayConfig): RateLimits {
  const { gateway, perIp, perUser, perRoute, perConnection, patienceMs, deny, exempt } = rateLimits
  return {
    gateway: scopeOf(gateway),
    perIp: scopeOf(perIp),
    perUser: scopeOf(perUser),
    perRoute: scopeOf(perRoute),
    perConnection: scopeOf(perConnection),
    patienceMs,
    deny: blocksOf(deny),
    exempt: blocksOf(exempt),
  }
}

/** null: the load is not judged. */
export function overloadRulesOf({ overload, workers }: GatewayConfig): OverloadRules | null {
  if (!overload.enabled) return null
  const { maxLagMs, maxHeapShare, maxDescriptorShare } = overload
  const memory = overload.maxMemoryBytes ?? grantedMemory(workers)
  const descriptors = descriptorLimit()
  const part = (share: number) =>
    descriptors === null ? {} : { descriptors: Math.floor(descriptors * share) }
  const closer = (share: number) => share + ((1 - share) * 2) / 3
  return {
    shed: {
      lag: maxLagMs,
      heap: maxHeapShare,
      ...(memory === null ? {} : { memory }),
      ...part(maxDescriptorShare),
    },
    cut: {
      lag: maxLagMs * lagToCut,
      heap: closer(maxHeapShare),
      ...(memory === null ? {} : { memory: memory * memoryToCut }),
      ...part(closer(maxDescriptorShare)),
    },
    looksToShed: overload.seconds,
    looksToRecover: overload.recoverSeconds,
  }
}

/** Says at start what would be found out at the worst time. */
export function warnOfDescriptors(config: GatewayConfig, logger: Pick<Logger, 'warn'>): void {
  const { connections } = config.rateLimits.gateway
  const limit = descriptorLimit()
  if (connections === undefined || limit === null) return
  const each = Object.keys(onlyUpstreams(config)).length > 0 ? 2 : 1
  const complaint = descriptorComplaint(limit, connections, each)
  if (complaint !== null) logger.warn({ descriptors: limit, connections }, complaint)
}

/** What this process may have of a cgroup that several workers share; null: there is none, or none that limits. */
function grantedMemory(workers: number): number | null {
  const granted = process.constrainedMemory()
  if (granted === 0 || granted >= totalmem()) return null
  return Math.floor((granted * memoryShare) / workers)
}

function scopeOf({ connections, newConnections, requests, messages }: Partial<ConfiguredScope>): ScopeLimits {
  return {
    ...(connections === undefined ? {} : { connections }),
    ...(newConnections === undefined ? {} : { newConnections: rateOf(newConnections) }),
    ...(requests === undefined ? {} : { requests: rateOf(requests) }),
    ...(messages === undefined ? {} : { messages: rateOf(messages) }),
  }
}

function rateOf({ perSecond, burst }: NonNullable<ConfiguredScope['requests']>): Rate {
  return { perSecond, burst: burst ?? Math.max(1, Math.round(perSecond * 2)) }
}

function blocksOf(texts: readonly string[]): Block[] {
  return texts.flatMap((text) => parseBlock(text) ?? [])
}
