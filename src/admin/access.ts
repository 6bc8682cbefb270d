import type { IncomingHttpHeaders } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { EvenkeelError } from '../protocol/errors.ts'

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

const localHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/

/** True when a listener on `host` can be reached from this machine only. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  if (bare === 'localhost') return true
  const family = isIP(bare)
  return family !== 0 && loopback.check(bare, family === 4 ? 'ipv4' : 'ipv6')
}

/**
 * Refuses to open the internal listener to a network without credentials.
 * Throws CONFIG_INVALID, which names each missing variable.
 */
export function assertListenAllowed(listen: {
  host: string
  adminToken: string | null
  nodeToken: string | null
}): void {
  if (isLoopbackHost(listen.host)) return
  const missing = [
    ...(listen.adminToken ? [] : ['EVENKEEL_ADMIN_TOKEN']),
    ...(listen.nodeToken ? [] : ['EVENKEEL_NODE_TOKEN']),
  ]
  if (missing.length === 0) return
  throw new EvenkeelError(
    'CONFIG_INVALID',
    `The internal listener would be open to the network (internal.host is "${listen.host}") ` +
      `without ${missing.join(' and ')}. Set ${missing.length === 1 ? 'it' : 'both'}, ` +
      'or listen on 127.0.0.1.',
  )
}

export type LocalRequestVerdict = { allowed: true } | { allowed: false; detail: string }

/**
 * For a listener without a token: only programs of this machine and its own pages may call it.
 * The Host check stops DNS rebinding, the Origin check stops foreign web pages. Use it for requests
 * and for link upgrades.
 */
export function checkLocalRequest(headers: IncomingHttpHeaders): LocalRequestVerdict {
  const host = headers.host?.toLowerCase()
  if (host === undefined || !localHost.test(host)) {
    return {
      allowed: false,
      detail:
        'Without a token the Host must be localhost, 127.0.0.1 or [::1]. Set EVENKEEL_ADMIN_TOKEN to use another name.',
    }
  }
  const { origin } = headers
  if (origin !== undefined && !isSameOrigin(origin, host)) {
    return {
      allowed: false,
      detail: 'Without a token the Origin must be this listener itself; pages of other origins are refused.',
    }
  }
  return { allowed: true }
}

function isSameOrigin(origin: string, host: string): boolean {
  // A parsed origin drops the default port, so both sides go through the same parser.
  const theirs = URL.parse(origin)
  const ours = URL.parse(`http://${host}`)
  return (
    theirs !== null &&
    ours !== null &&
    origin.toLowerCase().startsWith('http:') &&
    theirs.origin === ours.origin
  )
}
