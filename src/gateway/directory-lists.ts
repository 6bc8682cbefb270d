import type { FoundServer } from '../cluster/dns-discovery.ts'
import type { StoredUpstream } from '../cluster/upstreams.ts'
import { namesLoopback } from '../core/net/address-rules.ts'
import {
  defaultUpstreamId,
  isUpstreamId,
  originOfUrl,
  parseUpstreamUrl,
  upstreamIdRule,
  upstreamUrlRule,
} from '../core/net/upstream-url.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { UpstreamSpec } from './directory-member.ts'
import type { UpstreamPool } from './upstream-directory.ts'

/** Where upstreams are listed, as specs, and one list made of all. Pure. */

/** Throws CONFIG_INVALID naming the pool and what is wrong. */
export function configuredSpecs({ name, upstreams }: UpstreamPool): UpstreamSpec[] {
  return upstreams.map(({ url: text, id: given, weight = 1 }) => {
    const url = parseUpstreamUrl(text)
    if (url === null) throw mistake(name, `expected ${upstreamUrlRule}`)
    const id = given ?? defaultUpstreamId(url)
    if (!isUpstreamId(id)) throw mistake(name, `${id} needs an id of ${upstreamIdRule}`)
    return { id, pool: name, url, weight, origin: 'config', address: null, loopback: true }
  })
}

/** A name that is an answer of somebody else's server does not become loopback by it. */
export function foundSpecs({ name, dns }: UpstreamPool, servers: readonly FoundServer[]): UpstreamSpec[] {
  return servers.flatMap((found): UpstreamSpec[] => {
    const host = found.address.includes(':') ? `[${found.address}]` : found.address
    const scheme = dns?.scheme ?? 'http'
    const url =
      parseUpstreamUrl(`${scheme}://${found.name}:${found.port}`) ??
      parseUpstreamUrl(`${scheme}://${host}:${found.port}`)
    if (url === null) return []
    const loopback = dns !== null && namesLoopback(dns.name)
    const { address, weight, port } = found
    const id = `${address}:${port}`
    return [{ id, pool: name, url, weight, origin: 'dns', address, loopback }]
  })
}

export function storedSpec({ id, pool, url: text, weight }: StoredUpstream): UpstreamSpec {
  const url = new URL(text)
  return { id, pool, url, weight, origin: 'store', address: null, loopback: namesLoopback(url.hostname) }
}

/** The first of an id counts. `onDouble` is told of others that contradict it. */
export function mergeSpecs(
  lists: Iterable<readonly UpstreamSpec[]>,
  onDouble: (ignored: UpstreamSpec, used: UpstreamSpec) => void,
): Map<string, UpstreamSpec> {
  const merged = new Map<string, UpstreamSpec>()
  for (const list of lists) {
    for (const spec of list) {
      const known = merged.get(spec.id)
      if (known === undefined) merged.set(spec.id, spec)
      else if (known.pool !== spec.pool || known.origin === spec.origin) onDouble(spec, known)
    }
  }
  return merged
}

/** Whether a member can go on with the other spec, weight aside. */
export function isSameServer(a: UpstreamSpec, b: UpstreamSpec): boolean {
  return (
    a.pool === b.pool &&
    originOfUrl(a.url) === originOfUrl(b.url) &&
    a.origin === b.origin &&
    a.address === b.address
  )
}

function mistake(pool: string, what: string): EvenkeelError {
  return new EvenkeelError('CONFIG_INVALID', `pools.${pool}.upstreams: ${what}`)
}
