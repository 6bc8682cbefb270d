import { connect, type Socket } from 'node:net'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { proxyHeaderFor } from '../upstream/proxy-header.ts'

/** An upstream that ends a connection sooner, before anybody has said a word, has not taken it: not all who accept can serve. */
export const steadyMs = 1_000
/** Silent connections are kept up by TCP itself, and those that are gone noticed. */
export const keepAliveMs = 15_000

/** Connects to the address that was checked. Rejects when there is no connection within the time, or `signal` aborts. */
export function dialTcp(
  entry: UpstreamEntry,
  client: Socket,
  withinMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const { host, port } = entry.upstream.address
  const header = proxyHeaderFor(entry, client)
  const socket = connect({
    host,
    port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs,
    signal,
  })
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no connection within ${withinMs} ms`))
    }, withinMs)
    socket.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    socket.once('connect', () => {
      clearTimeout(timer)
      if (header !== null) socket.write(header)
      resolve(socket)
    })
  })
}

/**
 * Resolves once either side has spoken, or has kept the connection for a moment: true. False: the upstream has ended it before. No byte
 * of either side is taken.
 */
export function isTaken(client: Socket, upstream: Socket): Promise<boolean> {
  if (client.readableLength > 0 || client.readableEnded) return Promise.resolve(true)
  return new Promise((resolve) => {
    const spoke = () => end(true)
    const left = () => end(client.readableLength > 0)
    const timer = setTimeout(spoke, steadyMs)
    const heard = () => {
      // The end of what can be read is told by the same event.
      if (upstream.readableLength > 0) end(true)
    }
    client.on('readable', spoke)
    client.on('close', spoke)
    upstream.on('readable', heard)
    upstream.on('end', left)
    upstream.on('close', left)
    function end(taken: boolean) {
      clearTimeout(timer)
      client.off('readable', spoke)
      client.off('close', spoke)
      upstream.off('readable', heard)
      upstream.off('end', left)
      upstream.off('close', left)
      resolve(taken)
    }
  })
}
