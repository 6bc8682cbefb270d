import { parseAddress, parseBlock } from '../core/net/address.ts'
import type { ProxyProtocolVersion } from '../core/net/proxy-protocol.ts'
import {
  defaultUpstreamId,
  isUpstreamId,
  parseUpstreamUrl,
  upstreamIdRule,
} from '../core/net/upstream-url.ts'
import type { UpstreamPool } from '../gateway/upstream-directory.ts'
import type { UpstreamRules } from '../gateway/upstream-entry.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'
import { nodePools } from './route-rules.ts'

type Pools = GatewayConfig['pools']

/** Those that are of upstreams: all that no nodes serve. */
export function onlyUpstreams(config: Pick<GatewayConfig, 'pools' | 'pool' | 'routes'>): Pools {
  const nodes = nodePools(config)
  return Object.fromEntries(Object.entries(config.pools).filter(([name]) => !nodes.has(name)))
}

/** The pools as the directory of upstreams takes them; those in `tcpOnly` are not asked by requests. */
export function upstreamPools(pools: Pools, tcpOnly: ReadonlySet<string> = new Set()): UpstreamPool[] {
  return Object.entries(pools).map(([name, pool]) => ({
    name,
    upstreams: pool.upstreams.map((one) => (typeof one === 'string' ? { url: one } : one)),
    dns: pool.dns ?? null,
    probe: {
      ...pool.probe,
      path: pool.probe.path ?? null,
      proxyProtocol: proxyProtocolOf(pool),
    },
    allowedAddresses: pool.allowedAddresses ?? null,
    tcpOnly: tcpOnly.has(name),
  }))
}

export function upstreamRules(pools: Pools): ReadonlyMap<string, UpstreamRules> {
  return new Map(
    Object.entries(pools).map(([name, pool]) => [
      name,
      { migrate: pool.migrate, proxyProtocol: proxyProtocolOf(pool) },
    ]),
  )
}

function proxyProtocolOf({ proxyProtocol = 'off' }: Pools[string]): ProxyProtocolVersion | null {
  return proxyProtocol === 'off' ? null : proxyProtocol
}

/** What a schema of single values cannot say. */
export function upstreamPoolMistakes(pools: Pools): PlacedMistake[] {
  const mistakes: PlacedMistake[] = []
  const placeOfId = new Map<string, string>()
  for (const { name, upstreams, dns, allowedAddresses } of upstreamPools(pools)) {
    for (const [index, { url, id: given }] of upstreams.entries()) {
      const path = ['pools', name, 'upstreams', index]
      const wrong = (what: string) => mistakes.push(mistake(path, what))
      const parsed = parseUpstreamUrl(url)
      // The schema says what is wrong with a URL.
      if (parsed === null) continue
      const id = given ?? defaultUpstreamId(parsed)
      const other = placeOfId.get(id)
      if (!isUpstreamId(id)) wrong(`${id} needs an id of ${upstreamIdRule}`)
      else if (other !== undefined) wrong(`${id} is the id of ${other}, too; give each its own`)
      placeOfId.set(id, `pools.${name}.upstreams[${index}]`)
    }
    for (const [index, text] of (allowedAddresses ?? []).entries()) {
      if (parseBlock(text) !== null) continue
      const expected = 'expected an address or a CIDR block such as 10.0.0.0/8'
      mistakes.push(mistake(['pools', name, 'allowedAddresses', index], `${expected}, got "${text}"`))
    }
    for (const [index, text] of (dns?.servers ?? []).entries()) {
      if (isNameServer(text)) continue
      const expected = 'expected an address, or address:port ([address]:port of IPv6)'
      mistakes.push(mistake(['pools', name, 'dns', 'servers', index], `${expected}, got "${text}"`))
    }
  }
  return mistakes
}

function isNameServer(text: string): boolean {
  if (parseAddress(text) !== null) return true
  const [, bracketed, bare, port] = /^(?:\[([^\]]*)\]|([\d.]+)):(\d{1,5})$/.exec(text) ?? []
  return parseAddress(bracketed ?? bare ?? '') !== null && Number(port) > 0 && Number(port) <= 65_535
}
