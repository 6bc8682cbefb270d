import { placesByKey } from '../core/balance/policies.ts'
import type { PoolRules } from '../core/balance/pool-rules.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'
import { nodePools, poolsOf } from './route-rules.ts'

type Balanced = Pick<GatewayConfig, 'hashKey' | 'slowStartMs' | 'rebalance'>

/** What holds for all pools, beside the policy. */
export function commonRules({ hashKey, slowStartMs, rebalance }: Balanced): Partial<PoolRules> {
  const { load, measure, loadTolerance } = rebalance
  return { hashKey: hashKey ?? null, slowStartMs, load, measure, loadTolerance }
}

/** What each pool does otherwise. */
export function rulesByPool(pools: GatewayConfig['pools']): Map<string, Partial<PoolRules>> {
  return new Map(
    Object.entries(pools).map(([name, { policy, hashKey, slowStartMs, rebalance, affinity, orderBy }]) => {
      const rules = { policy, hashKey, slowStartMs, ...rebalance, affinity, orderBy: orderBy?.json }
      const given = Object.entries(rules).filter(([, value]) => value !== undefined)
      return [name, Object.fromEntries(given) as Partial<PoolRules>]
    }),
  )
}

/** What a schema of single values cannot say. */
export function balanceMistakes(config: GatewayConfig): PlacedMistake[] {
  const { policy, hashKey, rebalance, pools } = config
  const nodes = nodePools(config)
  const mistakes: PlacedMistake[] = []
  const hasKeys = (name: string) => hasRouteKeys(config, name)
  const needed = 'key-hash needs hashKey, such as {by: header, name: x-user}'
  if (policy === 'key-hash' && hashKey === undefined && !hasKeys(config.pool))
    mistakes.push(mistake(['policy'], needed))
  for (const [name, one] of Object.entries(pools)) {
    const wrong = (key: string, what: string) =>
      mistakes.push(mistake(['pools', name, ...key.split('.')], what))
    if (one.policy === 'key-hash' && (one.hashKey ?? hashKey) === undefined && !hasKeys(name))
      wrong('policy', needed)
    if (one.orderBy !== undefined && one.affinity !== 'message')
      wrong('orderBy', 'only with affinity message; otherwise a session has its order')
    if (one.affinity === 'message' && placesByKey(one.policy ?? policy))
      wrong(
        'affinity',
        `message does not go with policy ${one.policy ?? policy}, which binds clients to nodes`,
      )
    if (nodes.has(name)) continue
    if (one.affinity === 'message')
      wrong('affinity', 'message is for nodes that are linked; an upstream has one connection a session')
    if ((one.rebalance?.load ?? rebalance.load) === 'reported')
      wrong('rebalance.load', 'an upstream reports no load; use sessions or traffic')
  }
  return mistakes
}

/** Routes say what the clients of the pool are known by. */
function hasRouteKeys({ routes }: GatewayConfig, pool: string): boolean {
  return routes.some((route) => route.affinity !== undefined && poolsOf(route).includes(pool))
}
