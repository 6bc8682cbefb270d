import { createHash } from 'node:crypto'
import type { EventEmitter } from 'node:events'
import type { VirtualConnection } from './virtual-connection.ts'

/**
 * What is used of Socket.IO, as far as it is more than its types declare: what a server of versions 4.6 to 4.8 looks like from here.
 * Names with an underscore are private there; `test/integration/socket-io-versions.test.ts` pins them.
 */

export type Room = string | number

/** A longer name stands there as its hash. Of clients' choice, it could be as long as a message. */
const longestName = 512
/** So that a record of them, in JSON, stays below its 64 KiB. */
const namesAtOnce = 20

/** As gateways know rooms; Socket.IO takes anything for one, undefined too. */
export function roomNames(rooms: Iterable<unknown>): Room[] {
  return [...rooms].map((room) => {
    if (typeof room === 'number' && Number.isFinite(room)) return room
    const name = String(room)
    if (name.length <= longestName) return name
    return `sha256 ${createHash('sha256').update(name).digest('base64url')}`
  })
}

export function portions(rooms: readonly Room[]): Room[][] {
  const count = Math.ceil(rooms.length / namesAtOnce)
  return Array.from({ length: count }, (_, i) => rooms.slice(i * namesAtOnce, (i + 1) * namesAtOnce))
}

export interface Handshake {
  auth: Record<string, unknown>
  time: string
  issued: number
  [other: string]: unknown
}

export interface SocketView extends EventEmitter {
  id: string
  pid: string | undefined
  data: Record<string, unknown>
  recovered: boolean
  connected: boolean
  handshake: Handshake
  readonly rooms: Set<Room>
  readonly nsp: NamespaceView
  readonly conn: VirtualConnection
  /** Callbacks of events that the client has not acknowledged. */
  readonly acks: Map<number, unknown>
  join(rooms: Room | Room[]): unknown
  leave(room: Room): unknown
  disconnect(close?: boolean): unknown
  leaveAll(): void
  notifyOutgoingListeners?(packet: Packet): void
  _onconnect(): void
  _cleanup(): void
}

export interface ClientView {
  readonly conn: VirtualConnection
}

export interface NamespaceView extends EventEmitter {
  readonly name: string
  readonly server: ServerView
  readonly sockets: Map<string, SocketView>
  readonly adapter: AdapterView
  _ids: number
  readonly _preConnectSockets?: Map<string, SocketView>
  _createSocket(client: ClientView, auth: Record<string, unknown>): Promise<SocketView>
  run(socket: SocketView, done: (error: Error | null) => void): void
  _doConnect(socket: SocketView, attached: (socket: SocketView) => void): void
  _onServerSideEmit(args: unknown[]): void
}

export interface ServerView {
  readonly sockets: NamespaceView
  readonly _nsps: Map<string, NamespaceView>
  readonly _parser: { Decoder: new () => DecoderView }
  readonly encoder: { encode(packet: Packet): (string | Buffer)[] }
  bind(engine: unknown): unknown
  /** Of clients of its own, before it was attached. */
  readonly engine?: { close(): unknown }
  adapter(): AdapterClass
  adapter(adapter: AdapterClass): unknown
}

export interface DecoderView extends EventEmitter {
  add(piece: string | Buffer): void
}

export interface Packet {
  type: number
  nsp?: string
  data?: unknown
  id?: number
}

/** Of the public Adapter API. */
export interface BroadcastOptions {
  rooms: Set<Room>
  except?: Set<Room>
  flags?: { volatile?: boolean; local?: boolean; timeout?: number }
}

export interface AdapterView extends EventEmitter {
  readonly nsp: NamespaceView
  readonly sids: Map<string, Set<Room>>
  readonly encoder: ServerView['encoder']
  addAll(id: string, rooms: Set<Room>): unknown
  del(id: string, room: Room): unknown
  delAll(id: string): unknown
  broadcast(packet: Packet, options: BroadcastOptions): void
  broadcastWithAck(
    packet: Packet,
    options: BroadcastOptions,
    clientCount: (count: number) => void,
    ack: (...args: unknown[]) => void,
  ): void
  sockets(rooms: Set<Room>): Promise<Set<string>>
  fetchSockets(options: BroadcastOptions): Promise<unknown[]>
  addSockets(options: BroadcastOptions, rooms: Room[]): void
  delSockets(options: BroadcastOptions, rooms: Room[]): void
  disconnectSockets(options: BroadcastOptions, close: boolean): void
  serverSideEmit(packet: unknown[]): void
  serverCount(): Promise<number>
  apply(options: BroadcastOptions, visit: (socket: SocketView) => void): void
  _encode(packet: Packet, options: object): (string | Buffer)[]
  /** Of `@socket.io/redis-adapter`: is somebody here in the room? */
  hasRoom?(room: string): boolean
  close?(): unknown
}

export type AdapterClass = new (namespace: NamespaceView) => AdapterView
