import { nodeProtocols, protocolOfPath, type Route, type RouteProtocol } from '../core/route/match.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'
import { poolName } from './routes-schema.ts'

type Routed = Pick<GatewayConfig, 'pool' | 'pools' | 'routes'>
type ConfiguredRoute = GatewayConfig['routes'][number]

/** What clients can start runs by. */
const startsRuns: readonly RouteProtocol[] = ['websocket', 'sse', 'runs']

/** The routes with what they leave unsaid; a pool that is called `llm` needs none. */
export function effectiveRoutes(config: Routed): Route[] {
  const routes = config.routes.map((route) => ({ ...route, protocol: protocolOf(route, config) }))
  if (config.pools.llm === undefined) return routes
  const paths = ['/v1/chat/completions', '/v1/responses', '/v1/messages']
  return [...routes, ...paths.map((path) => ({ path, pool: 'llm', protocol: 'llm' as const }))]
}

/** Of a default path that leads to nodes its own. */
function protocolOf(route: ConfiguredRoute, { pool, pools }: Pick<Routed, 'pool' | 'pools'>): RouteProtocol {
  if (route.protocol !== undefined) return route.protocol
  const target = pools[route.pool]
  const isUpstreams =
    route.pool !== pool &&
    (target?.of === 'upstreams' ||
      (target !== undefined && (target.upstreams.length > 0 || target.dns !== undefined)))
  return (isUpstreams ? null : protocolOfPath(route.path)) ?? 'http'
}

/** The pools that nodes serve; all others of the configuration are of upstreams. */
export function nodePools(config: Routed): Set<string> {
  const names = new Set([config.pool])
  for (const [name, { of }] of Object.entries(config.pools)) if (of === 'nodes') names.add(name)
  for (const route of config.routes)
    if (leadsToNodes(protocolOf(route, config)))
      for (const name of [...poolsOf(route), ...(route.runPools ?? [])])
        if (config.pools[name]?.of !== 'upstreams') names.add(name)
  return names
}

export function poolsOf({ pool, split = [] }: Pick<Route, 'pool' | 'split'>): string[] {
  return [pool, ...split.map((part) => part.pool)]
}

function leadsToNodes(protocol: RouteProtocol): boolean {
  return nodeProtocols.some((one) => one === protocol)
}

/** What a schema of single values cannot say. */
export function routeMistakes(config: Routed & Pick<GatewayConfig, 'policy'>): PlacedMistake[] {
  const nodes = nodePools(config)
  const upstreams = Object.keys(config.pools).filter((name) => !nodes.has(name))
  const mistakes: PlacedMistake[] = []
  const names = new Map<string, number>()
  for (const [index, route] of config.routes.entries()) {
    const at = (...below: PropertyKey[]) => ['routes', index, ...below]
    const protocol = protocolOf(route, config)
    mistakes.push(...kindMistakes(route, protocol, at))
    for (const [part, name] of poolsOf(route).entries()) {
      const place = part === 0 ? at('pool') : at('split', part - 1, 'pool')
      const wrong = leadsToNodes(protocol) ? notOfNodes(name, config) : notOfUpstreams(name, upstreams)
      if (wrong !== null) mistakes.push(mistake(place, wrong))
      const policy = config.pools[name]?.policy ?? config.policy
      if (hasKey(route, protocol) && policy !== 'key-hash')
        mistakes.push(
          mistake(at('affinity'), `goes with a pool whose policy is key-hash; that of ${name} is ${policy}`),
        )
    }
    for (const [entry, name] of (route.runPools ?? []).entries()) {
      const wrong = notOfNodes(name, config)
      if (wrong !== null) mistakes.push(mistake(at('runPools', entry), wrong))
    }
    if (route.name === undefined) continue
    const other = names.get(route.name)
    if (other !== undefined)
      mistakes.push(mistake(at('name'), `${route.name} is the name of routes[${other}], too`))
    names.set(route.name, index)
  }
  return mistakes
}

/** What the policy of a pool is to hash. */
function hasKey({ affinity }: ConfiguredRoute, protocol: RouteProtocol): boolean {
  return affinity !== undefined && !('body' in affinity) && protocol !== 'llm' && protocol !== 'runs'
}

function kindMistakes(
  route: ConfiguredRoute,
  protocol: RouteProtocol,
  at: (...below: PropertyKey[]) => PropertyKey[],
): PlacedMistake[] {
  const { path, affinity, split, sticky, runPools } = route
  const mistakes: PlacedMistake[] = []
  const wrong = (place: PropertyKey[], text: string) => mistakes.push(mistake(place, text))
  for (const key of ['dialect', 'mode'] as const)
    if (route[key] !== undefined && protocol !== 'llm') wrong(at(key), 'goes with protocol: llm')
  if (affinity !== undefined) {
    if (protocol === 'runs') wrong(at('affinity'), 'runs go to the node with the least work')
    else if (protocol === 'llm' && !('header' in affinity || 'body' in affinity))
      wrong(at('affinity'), 'of llm is {header} or {body}')
    else if (protocol !== 'llm' && 'body' in affinity) wrong(at('affinity'), '{body} goes with protocol: llm')
  }
  if (path.endsWith('*') && leadsToNodes(protocol) && protocol !== 'websocket')
    wrong(at('path'), `of ${protocol} is without *: what is below it belongs to it`)
  if (split !== undefined) {
    const sum = split.reduce((total, { percent }) => total + percent, 0)
    if (sum > 100 + 1e-9) wrong(at('split'), `the parts are ${sum} percent together; at most 100`)
  }
  if (runPools !== undefined && !startsRuns.some((one) => one === protocol))
    wrong(at('runPools'), `goes with protocol: ${startsRuns.join(', ')}`)
  if (sticky !== undefined) {
    if (split === undefined) wrong(at('sticky'), 'goes with split')
    if ((sticky.by === 'header' || sticky.by === 'claim') && sticky.name === undefined)
      wrong(at('sticky'), `by ${sticky.by} needs name`)
    if (sticky.by === 'ip' && sticky.name !== undefined) wrong(at('sticky', 'name'), 'by ip has no name')
    if (
      sticky.by === 'cookie' &&
      sticky.name !== undefined &&
      !/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(sticky.name)
    )
      wrong(at('sticky', 'name'), 'is no name of a cookie')
  }
  return mistakes
}

function notOfUpstreams(name: string, upstreams: readonly string[]): string | null {
  if (upstreams.includes(name)) return null
  return `expected one of pools (${upstreams.join(', ') || 'there is none'}), got "${name}"`
}

function notOfNodes(name: string, { pool, pools }: Routed): string | null {
  if (name === pool) return null
  const known = pools[name]
  if (
    known?.of === 'upstreams' ||
    (known !== undefined && (known.upstreams.length > 0 || known.dns !== undefined))
  )
    return `this protocol is served by nodes, and pool ${name} is one of upstreams`
  return poolName.safeParse(name).success
    ? null
    : `a pool's name is 1 to 64 of A-Z a-z 0-9 . _ -, got "${name}"`
}
