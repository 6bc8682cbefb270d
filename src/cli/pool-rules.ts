import { placesByKey } from '../core/balance/policies.ts'
import type { PoolRules } from '../core/balance/pool-rules.ts'
import type { GatewayConfig } from './config-schema.ts'

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
export function balanceMistakes({ policy, hashKey, rebalance, pool, pools }: GatewayConfig): string[] {
  const mistakes: string[] = []
  const needed = 'key-hash needs hashKey, such as {by: header, name: x-user}'
  if (policy === 'key-hash' && hashKey === undefined) mistakes.push(`policy: ${needed}`)
  for (const [name, one] of Object.entries(pools)) {
    const place = `pools.${name}`
    if (one.policy === 'key-hash' && (one.hashKey ?? hashKey) === undefined)
      mistakes.push(`${place}.policy: ${needed}`)
    if (one.orderBy !== undefined && one.affinity !== 'message')
      mistakes.push(`${place}.orderBy: only with affinity message; otherwise a session has its order`)
    if (one.affinity === 'message' && placesByKey(one.policy ?? policy))
      mistakes.push(
        `${place}.affinity: message does not go with policy ${one.policy ?? policy}, which binds clients to nodes`,
      )
    if (name === pool) continue
    if (one.affinity === 'message')
      mistakes.push(
        `${place}.affinity: message is for nodes that are linked; an upstream has one connection a session`,
      )
    if ((one.rebalance?.load ?? rebalance.load) === 'reported')
      mistakes.push(`${place}.rebalance.load: an upstream reports no load; use sessions or traffic`)
  }
  return mistakes
}
