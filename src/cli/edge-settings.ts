import { Persistence } from '../edge/persistence.ts'
import type { EdgeSettings } from '../edge/target.ts'
import type { Identify } from './auth-settings.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import { overloadRulesOf, rateLimitsOf } from './limits-settings.ts'
import type { Logger } from './logger.ts'
import { effectiveRoutes, nodePools } from './route-rules.ts'
import { trustOf } from './trust.ts'

/** What the configuration means for requests of clients. `fallback`: the secret of a gateway that was given none. */
export function edgeSettings(
  config: GatewayConfig,
  tokens: GatewayTokens,
  fallback: Buffer,
  identify: Identify,
): EdgeSettings {
  const { pool, allowedOrigins } = config
  return {
    pool,
    allowedOrigins,
    trust: trustOf(config),
    routes: effectiveRoutes(config),
    persistence: persistenceOf(config, tokens, fallback),
    rateLimits: rateLimitsOf(config),
    overload: overloadRulesOf(config),
    identification: identify(config, tokens),
  }
}

function persistenceOf(
  config: GatewayConfig,
  { persistenceSecret, nodeToken }: GatewayTokens,
  fallback: Buffer,
): ReadonlyMap<string, Persistence> {
  const { pool: served, pools } = config
  const { by, name, ttlMs } = config.persistence
  if (by === 'none') return new Map()
  const secret = persistenceSecret ?? nodeToken ?? fallback
  const create = (pool: string, name: string) => new Persistence({ by, name, ttlMs, pool, secret })
  // One client may be in several pools: each has a name of its own.
  const others = [...new Set([...nodePools(config), ...Object.keys(pools)])].filter((pool) => pool !== served)
  return new Map([
    [served, create(served, name)],
    ...others.map((pool): [string, Persistence] => [pool, create(pool, `${name}-${pool}`)]),
  ])
}

export function warnOfPersistence(
  { persistence: { by }, redis }: GatewayConfig,
  { persistenceSecret, nodeToken }: GatewayTokens,
  logger: Logger,
): void {
  if (by === 'none' || by === 'ip' || redis === undefined || (persistenceSecret ?? nodeToken) !== null) return
  logger.warn(
    'clients that return to another gateway are as new ones: set persistence.secretFile, or a node token, at all gateways',
  )
}
