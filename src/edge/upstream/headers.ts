import type { IncomingMessage } from 'node:http'
import { clientAddress, clientHost, clientProto } from '../client-view.ts'
import { identityHeaders, isOwnHeader } from '../identity/sender.ts'

/** Of one hop only (RFC 9110 §7.6.1), whichever way it goes. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/**
 * Clients forge them; what the upstream gets is the gateway's own. CGI and its kin take `_` for `-`, and `Proxy` for a setting of
 * their own (CVE-2016-5385).
 */
function isForwarding(name: string): boolean {
  return /^(?:forwarded|x-forwarded(?:-.*)?|x-real-ip|proxy)$/.test(name.replaceAll('_', '-'))
}

export type HeaderPair = [name: string, value: string]

/** All headers as they came, without those of this hop. */
export function endToEnd(rawHeaders: readonly string[]): HeaderPair[] {
  const named = new Set<string>()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== 'connection') continue
    for (const token of rawHeaders[i + 1]!.split(',')) named.add(token.trim().toLowerCase())
  }
  const kept: HeaderPair[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    const lower = name.toLowerCase()
    if (!hopByHop.has(lower) && !named.has(lower)) kept.push([name, rawHeaders[i + 1]!])
  }
  return kept
}

/** As it came, or none when a client could not be told it. */
export function reasonPhrase({ statusText }: { statusText: string }): string {
  const bytes = Buffer.from(statusText).toString('latin1')
  return /^[\t\x20-\x7e\x80-\xff]*$/.test(bytes) ? bytes : ''
}

/** What goes along to the upstream, and who the client is. `drop` names headers in lower case that the caller sets itself. */
export function upstreamHeaders(
  request: IncomingMessage,
  url: URL,
  drop: (name: string) => boolean,
): HeaderPair[] {
  const headers = endToEnd(request.rawHeaders).filter(([name]) => {
    const lower = name.toLowerCase()
    return lower !== 'host' && !isForwarding(lower) && !isOwnHeader(request, lower) && !drop(lower)
  })
  const host = request.headers.host ?? ''
  const address = clientAddress(request)
  const proto = clientProto(request)
  const asked = clientHost(request)
  const node = address.includes(':') ? `"[${address}]"` : address
  headers.push(
    // Behind TLS the certificate and the virtual host are those of the URL.
    ['Host', url.protocol === 'https:' ? url.host : host],
    ['Forwarded', `for=${node};host="${asked.replace(/[^\w.:[\]-]/g, '')}";proto=${proto}`],
    ['X-Forwarded-For', address],
    ['X-Forwarded-Host', asked],
    ['X-Forwarded-Proto', proto],
    ...identityHeaders(request),
  )
  return headers
}
