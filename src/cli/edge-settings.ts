import { randomBytes } from 'node:crypto'
import type { Route } from '../core/route/match.ts'
import { Persistence } from '../edge/persistence.ts'
import type { EdgeSettings } from '../edge/target.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import type { Logger } from './logger.ts'
import { onlyUpstreams } from './upstream-pools.ts'

/** What the configuration means for requests of clients. */
export function edgeSettings(config: GatewayConfig, tokens: GatewayTokens, logger: Logger): EdgeSettings {
  const { pool, allowedOrigins } = config
  return {
    pool,
    allowedOrigins,
    routes: routesOf(config),
    persistence: persistenceOf(config, tokens, logger),
  }
}

/** A pool that is called so needs no routes. */
function routesOf({ routes, pools }: GatewayConfig): Route[] {
  if (pools.llm === undefined) return [...routes]
  const paths = ['/v1/chat/completions', '/v1/responses', '/v1/messages']
  return [...routes, ...paths.map((path) => ({ path, pool: 'llm', protocol: 'llm' as const }))]
}

function persistenceOf(
  { persistence: { by, name, ttlMs }, pool: served, pools, redis }: GatewayConfig,
  { persistenceSecret, nodeToken }: GatewayTokens,
  logger: Logger,
): ReadonlyMap<string, Persistence> {
  if (by === 'none') return new Map()
  const shared = persistenceSecret ?? nodeToken
  if (shared === null && by !== 'ip' && redis !== undefined) {
    logger.warn(
      'clients that return to another gateway are as new ones: set persistence.secretFile, or a node token, at all gateways',
    )
  }
  const secret = shared ?? randomBytes(32)
  const create = (pool: string, name: string) => new Persistence({ by, name, ttlMs, pool, secret })
  // One client may be at nodes and at several pools of upstreams: each has a name of its own.
  const others = Object.keys(onlyUpstreams({ pool: served, pools }))
  return new Map([
    [served, create(served, name)],
    ...others.map((pool): [string, Persistence] => [pool, create(pool, `${name}-${pool}`)]),
  ])
}
