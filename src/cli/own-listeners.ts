import { hostname, networkInterfaces } from 'node:os'
import type { Entry } from '../cluster/entry.ts'
import { parseAddress } from '../core/net/address.ts'
import { namesLoopback } from '../core/net/address-rules.ts'

/**
 * Why an upstream may not be at an address: a gateway of this machine listens there, and would be asked by itself; its internal
 * listener would take a client for an operator.
 */
export function refusalOfOwn(
  { host, port }: { host: string; port: number },
  ownPorts: readonly number[],
  gateways: readonly Entry[],
): string | null {
  const neighbours = gateways.flatMap((entry) =>
    entry.kind === 'gateway' ? portHere(entry.internalUrl) : [],
  )
  if (!ownPorts.includes(port) && !neighbours.includes(port)) return null
  return isThisMachine(host) ? `${host}:${port} is a listener of the gateway itself` : null
}

function portHere(internalUrl: string): number[] {
  const url = URL.parse(internalUrl.replace(/^ws/, 'http'))
  if (url === null) return []
  const name = url.hostname.replace(/^\[|\]$/g, '')
  const isHere = name === hostname().toLowerCase() || isThisMachine(name)
  return isHere ? [Number(url.port) || (url.protocol === 'https:' ? 443 : 80)] : []
}

function isThisMachine(host: string): boolean {
  if (namesLoopback(host)) return true
  const asked = parseAddress(host)
  if (asked === null) return false
  const own = Object.values(networkInterfaces()).flatMap((found) => found ?? [])
  return own.some(({ address }) => {
    const one = parseAddress(address)
    return one !== null && one.family === asked.family && one.value === asked.value
  })
}
