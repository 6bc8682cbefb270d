import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Upstream } from '../../gateway/upstream-directory.ts'

const keepAliveMs = 15_000

/**
 * Dials the address that was checked, whatever its name means by now. `header` is sent before anything else, also before TLS.
 */
export function connectTo(
  { url, address }: Pick<Upstream, 'url' | 'address'>,
  header: Uint8Array | null = null,
): Socket {
  const options = { host: address.host, port: address.port, keepAlive: true, noDelay: true }
  const withDelay = { ...options, keepAliveInitialDelay: keepAliveMs }
  const name = url.hostname.replace(/^\[|\]$/g, '')
  const names = isIP(name) === 0 ? { servername: name } : {}
  const isTls = url.protocol === 'https:'
  if (header === null) return isTls ? connectTls({ ...withDelay, ...names }) : connectTcp(withDelay)
  const socket = connectTcp(withDelay)
  socket.write(header)
  return isTls ? connectTls({ socket, ...names }) : socket
}
