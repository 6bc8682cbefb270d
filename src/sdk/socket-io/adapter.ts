import { attachmentCount, encodeAttached } from '../../protocol/socket-io-packet.ts'
import type {
  AdapterClass,
  AdapterView,
  BroadcastOptions,
  NamespaceView,
  Packet,
  Room,
  ServerView,
} from './views.ts'

/** What the adapter needs of the node; audiences are of one namespace. */
export interface AdapterHost {
  /** Sockets of this node changed their rooms. */
  joined(namespace: string, id: string, rooms: Iterable<Room>): void
  left(namespace: string, id: string, rooms: Iterable<Room>): void
  ended(namespace: string, id: string): void
  broadcast(namespace: string, options: BroadcastOptions, message: string | Buffer): void
  broadcastWithAck(
    namespace: NamespaceView,
    options: BroadcastOptions,
    message: string | Buffer,
    id: number,
    ack: (...args: unknown[]) => void,
  ): Promise<number>
  describe(namespace: string, options: BroadcastOptions): Promise<{ id: string }[]>
  /** Has the nodes of all matching sockets do something. */
  operate(namespace: string, options: BroadcastOptions, operation: Operation): void
  serverSideEmit(namespace: NamespaceView, packet: unknown[]): void
  readonly peerCount: number
}

export type Operation =
  | { op: 'join' | 'leave'; rooms: Room[] }
  | { op: 'disconnect'; close: boolean }
  | { op: 'describe'; request: number; node: string }

/**
 * An Adapter whose rooms are those of the gateways. `Base` is the in-memory one of the user's Socket.IO: what it keeps answers
 * `socket.rooms`, and does what is asked of this node alone (`io.local`).
 */
function gatewayAdapter(Base: AdapterClass, host: AdapterHost): AdapterClass {
  return class GatewayAdapter extends Base {
    override addAll(id: string, rooms: Set<Room>): void {
      super.addAll(id, rooms)
      // A socket that has not its own room is not connected yet: nobody is to reach it before its client knows.
      const all = this.sids.get(id)!
      if (rooms.has(id)) host.joined(this.nsp.name, id, all)
      else if (all.has(id)) host.joined(this.nsp.name, id, rooms)
    }

    override del(id: string, room: Room): void {
      super.del(id, room)
      host.left(this.nsp.name, id, [room])
    }

    override delAll(id: string): void {
      const isKnown = this.sids.has(id)
      super.delAll(id)
      if (isKnown) host.ended(this.nsp.name, id)
    }

    override broadcast(packet: Packet, options: BroadcastOptions): void {
      if (options.flags?.local === true) {
        super.broadcast(packet, options)
        return
      }
      const message = this.encode(packet)
      this.apply(options, (socket) => socket.notifyOutgoingListeners?.(packet))
      host.broadcast(this.nsp.name, options, message)
    }

    override broadcastWithAck(
      packet: Packet,
      options: BroadcastOptions,
      clientCount: (count: number) => void,
      ack: (...args: unknown[]) => void,
    ): void {
      if (options.flags?.local === true) {
        super.broadcastWithAck(packet, options, clientCount, ack)
        return
      }
      const id = this.nsp._ids++
      packet.id = id
      const message = this.encode(packet)
      this.apply(options, (socket) => socket.notifyOutgoingListeners?.(packet))
      // Each server is expected to count its clients; the gateways have counted all of them.
      for (let peer = 0; peer < host.peerCount; peer++) clientCount(0)
      void host.broadcastWithAck(this.nsp, options, message, id, ack).then(clientCount)
    }

    override async sockets(rooms: Set<Room>): Promise<Set<string>> {
      const found = await host.describe(this.nsp.name, { rooms })
      return new Set(found.map(({ id }) => id))
    }

    override fetchSockets(options: BroadcastOptions): Promise<unknown[]> {
      if (options.flags?.local === true) return super.fetchSockets(options)
      return host.describe(this.nsp.name, options)
    }

    override addSockets(options: BroadcastOptions, rooms: Room[]): void {
      // Here at once, as without a gateway; elsewhere when it has come there.
      super.addSockets(options, rooms)
      if (options.flags?.local !== true) host.operate(this.nsp.name, options, { op: 'join', rooms })
    }

    override delSockets(options: BroadcastOptions, rooms: Room[]): void {
      // Who leaves a room that is asked for would not be found any more.
      if (options.flags?.local === true) super.delSockets(options, rooms)
      else host.operate(this.nsp.name, options, { op: 'leave', rooms })
    }

    override disconnectSockets(options: BroadcastOptions, close: boolean): void {
      if (options.flags?.local === true) super.disconnectSockets(options, close)
      else host.operate(this.nsp.name, options, { op: 'disconnect', close })
    }

    override serverSideEmit(packet: unknown[]): void {
      host.serverSideEmit(this.nsp, packet)
    }

    override serverCount(): Promise<number> {
      return Promise.resolve(1 + host.peerCount)
    }

    private encode(packet: Packet): string | Buffer {
      packet.nsp = this.nsp.name
      return encodePacket(this.encoder, packet)
    }
  }
}

/** As a session message. Throws BAD_REQUEST for too many attachments. */
export function encodePacket(encoder: ServerView['encoder'], packet: Packet): string | Buffer {
  const [header, ...attachments] = encoder.encode(packet) as [string, ...Buffer[]]
  if (attachments.length === 0) return header
  attachmentCount(header)
  return encodeAttached(header, attachments)
}

/** The in-memory adapter: of the class of what the server uses, the last one before EventEmitter. */
function inMemoryAdapter(used: AdapterView): AdapterClass {
  let found = used.constructor as AdapterClass
  for (;;) {
    const parent = Object.getPrototypeOf(found) as AdapterClass
    if (!('broadcast' in (parent.prototype as object))) return found
    found = parent
  }
}

/** From now on the server's rooms are the gateways'. */
export function replaceAdapters(server: ServerView, host: AdapterHost): void {
  const former = [...server._nsps.values()].map(({ adapter }) => adapter)
  server.adapter(gatewayAdapter(inMemoryAdapter(server.sockets.adapter), host))
  // They would go on listening, and tell the server what it is told by the new ones.
  for (const adapter of former) void Promise.resolve(adapter.close?.()).catch(() => {})
}
