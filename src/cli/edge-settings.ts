import { randomBytes } from 'node:crypto'
import { Persistence } from '../edge/persistence.ts'
import type { EdgeSettings } from '../edge/target.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import type { Logger } from './logger.ts'
import { effectiveRoutes, nodePools } from './route-rules.ts'

/** What the configuration means for requests of clients. */
export function edgeSettings(config: GatewayConfig, tokens: GatewayTokens, logger: Logger): EdgeSettings {
  const { pool, allowedOrigins } = config
  return {
    pool,
    allowedOrigins,
    routes: effectiveRoutes(config),
    persistence: persistenceOf(config, tokens, logger),
  }
}

function persistenceOf(
  config: GatewayConfig,
  { persistenceSecret, nodeToken }: GatewayTokens,
  logger: Logger,
): ReadonlyMap<string, Persistence> {
  const { pool: served, pools, redis } = config
  const { by, name, ttlMs } = config.persistence
  if (by === 'none') return new Map()
  const shared = persistenceSecret ?? nodeToken
  if (shared === null && by !== 'ip' && redis !== undefined) {
    logger.warn(
      'clients that return to another gateway are as new ones: set persistence.secretFile, or a node token, at all gateways',
    )
  }
  const secret = shared ?? randomBytes(32)
  const create = (pool: string, name: string) => new Persistence({ by, name, ttlMs, pool, secret })
  // One client may be in several pools: each has a name of its own.
  const others = [...new Set([...nodePools(config), ...Object.keys(pools)])].filter((pool) => pool !== served)
  return new Map([
    [served, create(served, name)],
    ...others.map((pool): [string, Persistence] => [pool, create(pool, `${name}-${pool}`)]),
  ])
}
