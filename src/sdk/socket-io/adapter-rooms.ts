import { setTimeout as delay } from 'node:timers/promises'
import { EvenkeelError } from '../../protocol/errors.ts'
import { BroadcastLog, HeardBefore, type HeardUpTo, type LogMark, type Origin } from './broadcast-log.ts'
import { type Fence, fenceOf, fencePublisher } from './fences.ts'
import type { BroadcastOptions, NamespaceView, Packet, Room, SocketView } from './views.ts'
import type { VirtualConnection } from './virtual-connection.ts'

export interface AdapterRoomsHost {
  readonly instance: string
  /** Sockets of this node changed their rooms. */
  joined(namespace: string, id: string, rooms: Iterable<Room>): void
  left(namespace: string, id: string, rooms: Iterable<Room>): void
  ended(namespace: string, id: string): void
  /** The socket has been exported: what it does with rooms is done where its session is. */
  isHanded(namespace: string, id: string): boolean
  /** The session's connection, if it is served here. */
  served(session: string): VirtualConnection | undefined
  /** Runs it without telling the gateway of rooms. */
  quietly<T>(run: () => T): T
}

/** A broadcast, or what all sockets of an audience are to do, as the in-memory adapter gives it to its sockets. */
interface Heard {
  options: BroadcastOptions
  visit(socket: SocketView): void
}

/** Of a session that is about to leave. */
interface Passed {
  readonly term: number
  readonly others: number
}

interface Adopted {
  readonly namespace: NamespaceView
  readonly log: BroadcastLog<Heard>
  readonly publish: ((fence: Fence) => void) | null
  /** Fences of others, by session. */
  readonly fences: Map<string, Passed>
  /** Of sockets that came a short time ago: what they have got elsewhere may reach this node later. */
  readonly before: Map<SocketView, HeardBefore>
  /** Own fences that have not been heard. */
  readonly awaited: Map<string, () => void>
  audible: boolean
  /** All broadcasts are listened to until then, also to rooms that nobody here is in. */
  attentiveUntil: number
}

/** In broadcast options: who sends it, and his number of it. */
const originFlag = 'evenkeel'
const fenceMs = 2_000
/** The target has heard the fence already when the source begins to wait for it. */
const sourceFenceMs = 1_000
const echoMs = 50
/** Longer than a move may take. */
const attentiveMs = 15_000

/**
 * Rooms of the server's own adapter, `@socket.io/redis-adapter` or another: sockets join them wherever their session is. A session takes
 * its rooms along, and what was broadcast meanwhile is given to it by one of the two nodes: a fence is heard by both at the same place
 * among the broadcasts, the source says how far it has heard when it lets go, and the target adds what it has heard beyond that.
 */
export class AdapterRooms {
  private readonly host: AdapterRoomsHost
  private readonly adopted = new Map<string, Adopted>()
  private readonly marks = new Map<VirtualConnection, Map<string, LogMark>>()

  constructor(host: AdapterRoomsHost) {
    this.host = host
  }

  adopt(namespace: NamespaceView): void {
    const adopted: Adopted = {
      namespace,
      log: new BroadcastLog(this.host.instance, () => performance.now()),
      publish: fencePublisher(namespace.adapter),
      fences: new Map(),
      before: new Map(),
      awaited: new Map(),
      audible: false,
      attentiveUntil: 0,
    }
    this.adopted.set(namespace.name, adopted)
    this.followRooms(namespace)
    this.followBroadcasts(adopted)
    const { adapter } = namespace
    const { close } = adapter
    // Namespaces that are made when they are needed may end when they are empty.
    adapter.close = () => {
      if (this.adopted.get(namespace.name) === adopted) this.adopted.delete(namespace.name)
      return close?.call(adapter)
    }
  }

  /** The session may come: from here on what it may have to be given is kept. Rejects with VETO when the adapter is not heard. */
  async prepare(connection: VirtualConnection): Promise<void> {
    const { id, term } = connection.session
    for (const name of connection.imports.keys()) {
      const adopted = this.adopted.get(name)
      if (adopted === undefined || adopted.publish === null) continue
      adopted.attentiveUntil = performance.now() + attentiveMs
      await this.listen(adopted)
      const mark = adopted.log.open()
      this.marksOf(connection).set(name, mark)
      await this.publish(adopted, id, term, () => adopted.log.fence(mark))
    }
  }

  /** The session is about to leave. Rejects with VETO when the target's fence is not heard in time. */
  async readyToLeave(connection: VirtualConnection): Promise<void> {
    const startedAt = performance.now()
    const { id, handover } = connection.session
    const missing = () =>
      [...connection.sockets.keys()].find((name) => {
        const adopted = this.adopted.get(name)
        return adopted !== undefined && adopted.publish !== null && adopted.fences.get(id)?.term !== handover
      })
    while (missing() !== undefined) {
      if (performance.now() - startedAt > sourceFenceMs) throw unheard(missing()!)
      await delay(1)
    }
  }

  /** For the snapshot of a socket that leaves now. */
  heardBy(socket: SocketView): HeardUpTo | undefined {
    const adopted = this.adopted.get(socket.nsp.name)
    const fence = adopted?.fences.get(socket.conn.session.id)
    return fence === undefined ? undefined : adopted!.log.heardUpTo(fence.others)
  }

  /** Its snapshot has been taken: it gets nothing more here. */
  leave(connection: VirtualConnection): void {
    for (const [name, socket] of connection.sockets) {
      const adopted = this.adopted.get(name)
      if (adopted === undefined) continue
      const mark = adopted.log.open()
      adopted.log.fence(mark)
      this.marksOf(connection).set(name, mark)
      const rooms = new Set(socket.rooms)
      this.host.quietly(() => adopted.namespace.adapter.delAll(socket.id))
      Object.defineProperty(socket, 'rooms', { get: () => rooms, configurable: true })
    }
  }

  /** The move was called off after `leave`: it gets what it has missed. */
  stay(connection: VirtualConnection): void {
    for (const [name, socket] of connection.sockets) {
      const adopted = this.adopted.get(name)
      const rooms = new Set(socket.rooms)
      if (adopted === undefined || !Object.hasOwn(socket, 'rooms')) continue
      delete (socket as { rooms?: unknown }).rooms
      this.host.quietly(() => adopted.namespace.adapter.addAll(socket.id, rooms))
      this.catchUp(connection, socket, null)
    }
  }

  /** The socket is here and in its rooms: it gets what the source has not heard before it let go. */
  catchUp(connection: VirtualConnection, socket: SocketView, heard: HeardUpTo | null): void {
    const adopted = this.adopted.get(socket.nsp.name)
    const mark = this.marks.get(connection)?.get(socket.nsp.name)
    if (adopted === undefined || mark === undefined) return
    this.marks.get(connection)!.delete(socket.nsp.name)
    const before = new HeardBefore(mark, heard)
    adopted.before.set(socket, before)
    setTimeout(() => adopted.before.delete(socket), attentiveMs).unref()
    for (const { options, visit } of adopted.log.take(mark, before))
      if (isMeant(socket, options)) visit(socket)
  }

  /** It does not come, or is gone. */
  forget(connection: VirtualConnection): void {
    for (const [name, mark] of this.marks.get(connection) ?? []) this.adopted.get(name)?.log.close(mark)
    this.marks.delete(connection)
    for (const { fences } of this.adopted.values()) fences.delete(connection.id)
  }

  private followRooms({ name, adapter }: NamespaceView): void {
    const { host } = this
    const { addAll, del, delAll } = adapter
    adapter.addAll = (id, rooms) => {
      const result = host.isHanded(name, id) ? undefined : addAll.call(adapter, id, rooms)
      host.joined(name, id, rooms)
      return result
    }
    adapter.del = (id, room) => {
      const result = del.call(adapter, id, room)
      host.left(name, id, [room])
      return result
    }
    adapter.delAll = (id) => {
      const isKnown = adapter.sids.has(id) || host.isHanded(name, id)
      const result = delAll.call(adapter, id)
      if (isKnown) host.ended(name, id)
      return result
    }
  }

  private followBroadcasts(adopted: Adopted): void {
    const { log, namespace } = adopted
    const { adapter } = namespace
    const { instance } = this.host
    let lastSeq = 0
    const { broadcast } = adapter
    adapter.broadcast = (packet, options) => {
      const { flags } = options
      if (flags?.local === true) return broadcast.call(adapter, packet, options)
      const numbered = { ...flags, [originFlag]: [instance, ++lastSeq] }
      return broadcast.call(adapter, packet, { ...options, flags: numbered })
    }
    // The in-memory adapter encodes what it broadcasts just before it looks for its sockets.
    let encoded: Packet | null = null
    const { _encode, apply } = adapter
    adapter._encode = (packet, options) => {
      encoded = packet
      return _encode.call(adapter, packet, options)
    }
    let isAsking = false
    adapter.apply = (options, visit) => {
      const packet = encoded
      encoded = null
      const fence = fenceOf(options)
      if (fence !== null) {
        this.fenced(adopted, ...fence)
        return
      }
      if (options.flags?.local === true || isAsking || packet?.id !== undefined) {
        apply.call(adapter, options, visit)
        return
      }
      const item = { options, visit }
      const origin = originOf(options)
      if (packet === null) log.operation(item)
      else log.broadcast(origin, item)
      const other = packet === null || origin !== null ? 0 : log.othersCount
      apply.call(adapter, options, (socket) => {
        if (adopted.before.get(socket)?.has(origin, other) !== true) visit(socket)
      })
    }
    // Looking for sockets is no operation that could be done later.
    const asking = <T>(ask: () => T): T => {
      isAsking = true
      try {
        return ask()
      } finally {
        isAsking = false
      }
    }
    const { fetchSockets, sockets } = adapter
    adapter.fetchSockets = (options) => asking(() => fetchSockets.call(adapter, options))
    adapter.sockets = (rooms) => asking(() => sockets.call(adapter, rooms))
    const { hasRoom } = adapter
    if (hasRoom !== undefined)
      adapter.hasRoom = (room) => performance.now() < adopted.attentiveUntil || hasRoom.call(adapter, room)
  }

  /** Resolves when this server hears what it publishes: its subscriptions are there. */
  private async listen(adopted: Adopted): Promise<void> {
    if (adopted.audible) return
    const startedAt = performance.now()
    const { instance } = this.host
    adopted.awaited.set(fenceKey(instance, 0), () => {
      adopted.audible = true
    })
    while (!adopted.audible) {
      if (performance.now() - startedAt > fenceMs) throw unheard(adopted.namespace.name)
      adopted.publish!([instance, 0])
      await delay(echoMs)
    }
  }

  private publish(adopted: Adopted, session: string, term: number, heard: () => void): Promise<void> {
    const key = fenceKey(session, term)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        adopted.awaited.delete(key)
        adopted.audible = false
        reject(unheard(adopted.namespace.name))
      }, fenceMs)
      adopted.awaited.set(key, () => {
        clearTimeout(timer)
        heard()
        resolve()
      })
      adopted.publish!([session, term])
    })
  }

  private fenced(adopted: Adopted, session: string, term: number): void {
    const key = fenceKey(session, term)
    const own = adopted.awaited.get(key)
    if (own !== undefined) {
      adopted.awaited.delete(key)
      own()
      return
    }
    const connection = this.host.served(session)
    if (connection?.phase !== 'open' || !connection.sockets.has(adopted.namespace.name)) return
    adopted.attentiveUntil = performance.now() + attentiveMs
    adopted.fences.set(session, { term, others: adopted.log.othersCount })
  }

  private marksOf(connection: VirtualConnection): Map<string, LogMark> {
    let marks = this.marks.get(connection)
    if (marks === undefined) {
      marks = new Map()
      this.marks.set(connection, marks)
    }
    return marks
  }
}

function fenceKey(session: string, term: number): string {
  return `${session} ${term}`
}

function originOf({ flags }: BroadcastOptions): Origin {
  const origin = (flags as Record<string, unknown> | undefined)?.[originFlag]
  return Array.isArray(origin) ? (origin as unknown as Origin) : null
}

function isMeant({ rooms: own }: SocketView, { rooms, except }: BroadcastOptions): boolean {
  const isIn = (set: Set<Room>) => [...set].some((room) => own.has(room))
  return (rooms.size === 0 || isIn(rooms)) && !(except !== undefined && isIn(except))
}

function unheard(namespace: string): EvenkeelError {
  return new EvenkeelError('VETO', `a fence in namespace ${namespace} is not heard by way of its adapter`)
}
