import type { Socket } from 'node:net'
import { encodeProxyHeader } from '../../core/net/proxy-protocol.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { endsOf } from '../peer-address.ts'

/**
 * What a connection to the upstream that is made for one client begins with; null: nothing. `address`: the client's, where more is
 * known than its connection says.
 */
export function proxyHeaderFor(
  { proxyProtocol }: UpstreamEntry,
  client: Socket,
  address?: string,
): Uint8Array | null {
  if (proxyProtocol === null) return null
  const { source, destination } = endsOf(client)
  // The port is that of whoever made the connection.
  const known = address === undefined || address === source.address ? source : { address, port: 0 }
  return encodeProxyHeader(proxyProtocol, known, destination)
}
