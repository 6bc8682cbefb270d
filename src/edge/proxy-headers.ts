import type { Server, Socket } from 'node:net'
import { type Block, isInside, parseAddress } from '../core/net/address.ts'
import { parseProxyHeader } from '../core/net/proxy-protocol.ts'
import { tellEnds } from './peer-address.ts'
import { readPrologue } from './prologue.ts'

export interface ProxyHeadersOptions {
  /** Where the proxies are; whoever connects from elsewhere is cut. */
  readonly from: readonly Block[]
  /** A connection was cut; `address` is that of its other end. */
  readonly onRefused: (reason: string, address: string) => void
}

export interface ProxyHeaders {
  /** Cuts connections whose header has not come yet. */
  close(): void
}

/**
 * From now on every connection to the server has to begin with a PROXY protocol header, before anything else, TLS included. Those who
 * listened for connections get them once it was read; `peerAddress` says who they are of. To be called when the listeners are there.
 * `withinMs` says how long a header may take.
 */
export function requireProxyHeaders(
  server: Server,
  withinMs: () => number,
  { from, onRefused }: ProxyHeadersOptions,
): ProxyHeaders {
  const listeners = server.listeners('connection')
  const waiting = new Map<Socket, () => void>()
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    const peer = socket.remoteAddress ?? ''
    const address = parseAddress(peer)
    const cut = (reason: string) => {
      waiting.delete(socket)
      socket.on('error', () => {})
      socket.destroy()
      onRefused(reason, peer)
    }
    if (address === null || !from.some((block) => isInside(address, block))) {
      cut('no proxy may connect from there')
      return
    }
    const stop = readPrologue(socket, {
      parse: parseProxyHeader,
      taken: ({ length }) => length,
      withinMs: withinMs(),
      failed: cut,
      done({ ends }) {
        waiting.delete(socket)
        if (ends !== null) tellEnds(socket, ends)
        for (const listener of listeners) listener.call(server, socket)
      },
    })
    waiting.set(socket, stop)
  })
  return {
    close() {
      for (const [socket, stop] of waiting) {
        stop()
        socket.on('error', () => {})
        socket.destroy()
      }
      waiting.clear()
    },
  }
}
