import { deserialize, serialize } from 'node:v8'
import { decodeAttached, encodeNote, packetHead } from '../../protocol/socket-io-packet.ts'
import type { Audience, NodeGroups, Way } from '../groups.ts'
import { slotOf, slotOfAck } from './ack-ids.ts'
import type { AdapterHost, Operation } from './adapter.ts'
import {
  type BroadcastOptions,
  type NamespaceView,
  type Room,
  roomNames,
  type ServerView,
  type SocketView,
} from './views.ts'
import { messageHeader } from './virtual-connection.ts'

/** Answers of other nodes are waited for this long. */
const answerMs = 5_000
const defaultAckMs = 60_000

/** What nodes tell each other. */
type Word =
  | { kind: 'described'; request: number; socket: Described | null }
  | { kind: 'ack'; session: string; packet: string | Buffer }
  | { kind: 'emit'; nsp: string; args: unknown[]; request: number | null }
  | { kind: 'emitted'; request: number; response: unknown }

export interface Described {
  id: string
  handshake: unknown
  rooms: Room[]
  data: unknown
}

interface Gathering {
  readonly found: unknown[]
  missing: number | null
  finish(): void
  add(item: unknown): void
}

export interface RemoteHost {
  readonly groups: NodeGroups
  readonly server: ServerView
  readonly nodeId: string
  readonly slot: number
  /** Of the pool, at any gateway. */
  peersChanged(): void
  /** An acknowledgement of an event that this node has sent, by way of another one. */
  acknowledged(session: string, packet: string | Buffer): void
}

/** What reaches sockets and servers beyond this node. */
export class Remote {
  private readonly host: RemoteHost
  private readonly gatherings = new Map<number, Gathering>()
  private readonly broadcastAcks = new Map<number, (...args: unknown[]) => void>()
  private peersBySlot = new Map<number, string>()
  private lastRequest = 0

  constructor(host: RemoteHost) {
    this.host = host
    host.groups.handlers = {
      told: (from, data) => {
        const word = readWord(data)
        if (word !== null) this.told(from, word)
      },
      peersChanged: () => {
        this.peersBySlot = new Map(
          host.groups.peers(host.nodeId).map(({ id, instance }) => [slotOf(instance), id]),
        )
        host.peersChanged()
      },
    }
  }

  get peerCount(): number {
    return this.peersBySlot.size
  }

  broadcast(namespace: string, options: BroadcastOptions, message: string | Buffer): void {
    this.host.groups.cast(audience(namespace, options, 'clients'), message, options.flags?.volatile === true)
  }

  readonly broadcastWithAck: AdapterHost['broadcastWithAck'] = (namespace, options, message, id, ack) => {
    this.host.groups.check(message)
    this.broadcastAcks.set(id, ack)
    const patienceMs = (options.flags?.timeout ?? defaultAckMs) + answerMs
    setTimeout(() => this.broadcastAcks.delete(id), patienceMs).unref()
    const isVolatile = options.flags?.volatile === true
    return this.host.groups.countedCast(audience(namespace.name, options, 'clients'), message, isVolatile)
  }

  describe(namespace: string, options: BroadcastOptions): Promise<{ id: string }[]> {
    const request = ++this.lastRequest
    const note = { op: 'describe', nsp: namespace, request, node: this.host.nodeId }
    return new Promise((resolve) => {
      const gathering = this.gather(request, (found) => {
        const byId = new Map(
          (found as ({ id: string } | null)[]).flatMap((one) => (one === null ? [] : [[one.id, one]])),
        )
        resolve([...byId.values()])
      })
      void this.host.groups
        .countedCast(audience(namespace, options, 'nodes'), encodeNote(note))
        .then((count) => {
          gathering.missing = count
          gathering.finish()
        })
    })
  }

  readonly operate: AdapterHost['operate'] = (namespace, options, operation) => {
    const note = encodeNote({ ...operation, nsp: namespace })
    this.host.groups.cast(operands(namespace, options, operation), note)
  }

  /** By way of one gateway, unless it has got the same already. */
  emitOnce(
    way: Way,
    once: string,
    namespace: string,
    options: BroadcastOptions,
    message: string | Buffer,
  ): void {
    const isVolatile = options.flags?.volatile === true
    this.host.groups.castBy(way, { ...audience(namespace, options, 'clients'), once }, message, isVolatile)
  }

  operateOnce(
    way: Way,
    once: string,
    namespace: string,
    options: BroadcastOptions,
    operation: Operation,
  ): void {
    const note = encodeNote({ ...operation, nsp: namespace })
    this.host.groups.castBy(way, { ...operands(namespace, options, operation), once }, note)
  }

  serverSideEmit(namespace: NamespaceView, packet: unknown[]): void {
    const ack = packet.at(-1)
    const hasAck = typeof ack === 'function'
    const args = hasAck ? packet.slice(0, -1) : packet
    const request = hasAck ? ++this.lastRequest : null
    if (hasAck) {
      const gathering = this.gather(request!, (found, whole) =>
        ack(whole ? null : new Error('not all servers have answered in time'), found),
      )
      gathering.missing = this.peerCount
      gathering.finish()
    }
    this.tell('*', { kind: 'emit', nsp: namespace.name, args, request })
  }

  /** The socket that another node (or this one) asks for. */
  described(node: string, request: number, socket: SocketView | null): void {
    if (node === this.host.nodeId) {
      this.gatherings.get(request)?.add(socket)
      return
    }
    const known = socket === null ? null : describeSocket(socket)
    this.tell(node, { kind: 'described', request, socket: known })
  }

  /** A client acknowledges an event that some node has sent. Returns false when it is this one's, and not that of a broadcast. */
  acknowledged(id: number, session: string, packet: string | Buffer, link: unknown): boolean {
    const slot = slotOfAck(id)
    if (slot === this.host.slot) return this.broadcastAcknowledged(id, packet)
    const node = this.peersBySlot.get(slot)
    if (node !== undefined) this.tell(node, { kind: 'ack', session, packet }, link)
    return true
  }

  private broadcastAcknowledged(id: number, packet: string | Buffer): boolean {
    const ack = this.broadcastAcks.get(id)
    if (ack === undefined) return false
    const decoder = new this.host.server._parser.Decoder()
    decoder.on('decoded', ({ data }: { data: unknown[] }) => ack(...data))
    if (typeof packet === 'string') {
      decoder.add(packet)
    } else {
      const { header, attachments } = decodeAttached(packet)
      for (const piece of [header, ...attachments]) decoder.add(piece)
    }
    return true
  }

  private told(from: string, word: Word): void {
    if (word.kind === 'described') {
      this.gatherings.get(word.request)?.add(word.socket)
    } else if (word.kind === 'emitted') {
      this.gatherings.get(word.request)?.add(word.response)
    } else if (word.kind === 'ack') {
      const packet = typeof word.packet === 'string' ? word.packet : Buffer.from(word.packet)
      const { ack } = packetHead(messageHeader(packet))
      if (ack === null || !this.broadcastAcknowledged(ack, packet))
        this.host.acknowledged(word.session, packet)
    } else if (word.kind === 'emit') {
      const { nsp, args, request } = word
      const respond = (response: unknown) => this.tell(from, { kind: 'emitted', request: request!, response })
      this.host.server._nsps.get(nsp)?._onServerSideEmit(request === null ? args : [...args, respond])
    }
  }

  private tell(node: string, word: Word, link?: unknown): void {
    this.host.groups.tell(node, serialize(word), link)
  }

  /** Collects answers until none is missing any more, or for `answerMs`. */
  private gather(request: number, done: (found: unknown[], whole: boolean) => void): Gathering {
    const end = (whole: boolean) => {
      clearTimeout(timer)
      if (this.gatherings.delete(request)) done(gathering.found, whole)
    }
    const timer = setTimeout(() => end(false), answerMs)
    const gathering: Gathering = {
      found: [],
      missing: null,
      finish: () => {
        if (gathering.missing !== null && gathering.found.length >= gathering.missing) end(true)
      },
      add: (item) => {
        gathering.found.push(item)
        gathering.finish()
      },
    }
    this.gatherings.set(request, gathering)
    return gathering
  }
}

/** Rooms change at the gateway at once; the sockets are told. */
function operands(namespace: string, options: BroadcastOptions, operation: Operation): Audience {
  const { op } = operation
  const changes = op === 'join' || op === 'leave' ? { [op]: roomNames(operation.rooms) } : {}
  return { ...audience(namespace, options, 'nodes'), ...changes }
}

export function audience(scope: string, { rooms, except }: BroadcastOptions, to: 'clients' | 'nodes') {
  return { scope, rooms: roomNames(rooms), except: roomNames(except ?? []), to }
}

/** Null for what no node of this kind says: another application may be in the pool. */
function readWord(data: string | Buffer): Word | null {
  try {
    return typeof data === 'string' ? null : (deserialize(data) as Word)
  } catch {
    return null
  }
}

function describeSocket({ id, handshake, rooms, data }: SocketView): Described | null {
  try {
    // What cannot be cloned cannot be shown elsewhere.
    return structuredClone({ id, handshake, rooms: [...rooms], data })
  } catch {
    return { id, handshake: structuredCloneOrNull(handshake), rooms: [...rooms], data: {} }
  }
}

function structuredCloneOrNull(value: unknown): unknown {
  try {
    return structuredClone(value)
  } catch {
    return null
  }
}
