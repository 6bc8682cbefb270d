import type { Socket } from 'node:net'
import type { Endpoint } from '../core/net/proxy-protocol.ts'

/** Both ends of a client's connection. */
export interface Ends {
  readonly source: Endpoint
  readonly destination: Endpoint
}

/** What proxies in front said of connections that they made for others. */
const told = new WeakMap<Socket, Ends>()

/** The proxy that made the connection says whose it is. */
export function tellEnds(socket: Socket, ends: Ends): void {
  told.set(socket, ends)
}

/** The address of whoever connected: as a trusted proxy said, or else the other end of the socket; empty once that is gone. */
export function peerAddress(socket: Socket): string {
  return told.get(plain(socket))?.source.address ?? unmapped(socket.remoteAddress)
}

export function endsOf(socket: Socket): Ends {
  return (
    told.get(plain(socket)) ?? {
      source: { address: unmapped(socket.remoteAddress), port: socket.remotePort ?? 0 },
      destination: { address: unmapped(socket.localAddress), port: socket.localPort ?? 0 },
    }
  )
}

/** Under TLS is the socket that was accepted; Node keeps it there for its own use. */
function plain(socket: Socket): Socket {
  const { _parent: parent } = socket as { _parent?: Socket | null }
  return parent ?? socket
}

function unmapped(address = ''): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address
}
