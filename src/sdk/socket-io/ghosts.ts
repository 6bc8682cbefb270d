import { EventEmitter } from 'node:events'
import type { AdapterHost } from './adapter.ts'
import type { Room, SocketView } from './views.ts'
import type { VirtualConnection } from './virtual-connection.ts'

/** What the application is told when a session has left. */
const reason = 'server migration'

export interface GhostsHost {
  operate: AdapterHost['operate']
  /** Runs it without telling the gateway of rooms. */
  quietly(run: () => void): void
}

/**
 * Connections whose sessions live elsewhere now. Handlers that were in flight when they left go on here: what they emit is delivered late,
 * what they are acknowledged comes back, what they do with rooms is done where the session is. Soon they fall silent.
 */
export class Ghosts {
  private readonly ghostMs: number
  private readonly host: GhostsHost
  private readonly bySession = new Map<string, Set<VirtualConnection>>()

  constructor(ghostMs: number, host: GhostsHost) {
    this.ghostMs = ghostMs
    this.host = host
  }

  of(session: string): Iterable<VirtualConnection> {
    return this.bySession.get(session) ?? []
  }

  /** The session of the connection has been released. */
  add(connection: VirtualConnection): void {
    connection.phase = 'ghost'
    const known = this.bySession.get(connection.id)
    if (known === undefined) this.bySession.set(connection.id, new Set([connection]))
    else known.add(connection)
    setTimeout(() => this.end(connection), this.ghostMs).unref()
    const sockets = [...connection.sockets.values()].filter(({ connected }) => connected)
    for (const socket of sockets) emitHere(socket, 'disconnecting')
    for (const socket of sockets) this.detach(socket)
    for (const socket of sockets) emitHere(socket, 'disconnect')
  }

  /** Resolves when no handler that still runs owes or awaits an acknowledgement. */
  async silent(): Promise<void> {
    const isBusy = () => [...this.bySession.values()].some((set) => [...set].some(isAwaiting))
    while (isBusy()) await new Promise((resolve) => setTimeout(resolve, 5))
  }

  private detach(socket: SocketView): void {
    const { nsp, id } = socket
    const { operate } = this.host
    const rooms = new Set<Room>(socket.rooms)
    const itself = { rooms: new Set<Room>([id]) }
    // The session may come back to this node and bring the same id: the old socket must not touch what is the new one's.
    this.host.quietly(() => nsp.adapter.delAll(id))
    nsp.sockets.delete(id)
    socket.join = (wanted) => operate(nsp.name, itself, { op: 'join', rooms: [wanted].flat() })
    socket.leave = (room) => operate(nsp.name, itself, { op: 'leave', rooms: [room] })
    socket.disconnect = (close = false) => {
      operate(nsp.name, itself, { op: 'disconnect', close })
      return socket
    }
    socket.leaveAll = () => {}
    socket._cleanup = () => {}
    Object.defineProperty(socket, 'rooms', { get: () => rooms, configurable: true })
  }

  private end(connection: VirtualConnection): void {
    const known = this.bySession.get(connection.id)
    known?.delete(connection)
    if (known?.size === 0) this.bySession.delete(connection.id)
    for (const socket of connection.sockets.values()) socket.connected = false
    connection.end(reason)
  }
}

function isAwaiting({ openAcks, sockets }: VirtualConnection): boolean {
  return openAcks > 0 || [...sockets.values()].some(({ acks }) => acks.size > 0)
}

/** `emit` of a socket would send it to the client. */
function emitHere(socket: SocketView, event: string): void {
  EventEmitter.prototype.emit.call(socket, event, reason)
}
