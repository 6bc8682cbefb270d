import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Upstream } from '../../gateway/upstream-directory.ts'

const keepAliveMs = 15_000

/** Dials the address that was checked, whatever its name means by now. */
export function connectTo({ url, address }: Upstream): Socket {
  const options = { host: address.host, port: address.port, keepAlive: true, noDelay: true }
  const withDelay = { ...options, keepAliveInitialDelay: keepAliveMs }
  if (url.protocol !== 'https:') return connectTcp(withDelay)
  const name = url.hostname.replace(/^\[|\]$/g, '')
  return connectTls({ ...withDelay, ...(isIP(name) === 0 ? { servername: name } : {}) })
}
