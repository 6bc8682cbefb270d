import { decodeNote, encodeNote, isNote, PacketType, packetHead } from '../../protocol/socket-io-packet.ts'
import type { EvenkeelNode } from '../node.ts'
import type { NodeSession } from '../session.ts'
import type { CloseReason, Logger, Session, SessionHandlers } from '../types.ts'
import { slotOf } from './ack-ids.ts'
import { type AdapterHost, encodePacket, replaceAdapters } from './adapter.ts'
import { AdapterRooms } from './adapter-rooms.ts'
import type { Emitters, EmittersHost } from './emitters.ts'
import { exportSession, saveSoon } from './exports.ts'
import { Ghosts } from './ghosts.ts'
import { adoptNamespace, attach, Import } from './imports.ts'
import type { CheckedOptions } from './options.ts'
import { Remote } from './remote.ts'
import { type NamespaceSnapshot, readSnapshot } from './snapshot.ts'
import { type NamespaceView, portions, type Room, roomNames, type ServerView } from './views.ts'
import { messageHeader, VirtualConnection } from './virtual-connection.ts'
import { VirtualEngine } from './virtual-engine.ts'

/** Async `connection` handlers of a session that came here are waited for this long. */
const connectionHandlersMs = 5_000
const closeUnsupportedData = 1003
const closeServiceRestart = 1012
/** Reasons that Socket.IO knows for the end of a connection. */
const knownReasons: ReadonlySet<string> = new Set([
  'transport close',
  'transport error',
  'ping timeout',
  'parse error',
  'forced close',
])

/** A Socket.IO server as the handlers of a node. */
export class SocketIoNode implements SessionHandlers, AdapterHost {
  private readonly node: EvenkeelNode
  readonly server: ServerView
  readonly engine: VirtualEngine
  readonly remote: Remote
  readonly slot: number
  readonly nodeId: string
  readonly groups: EvenkeelNode['groups']
  private readonly options: CheckedOptions
  private readonly logger: Logger
  private readonly connections = new Map<Session, VirtualConnection>()
  /** Those that are no ghosts, by session id. */
  private readonly byId = new Map<string, VirtualConnection>()
  private readonly ghosts: Ghosts
  /** Null: rooms are the gateways'. */
  private readonly adapterRooms: AdapterRooms | null
  /** Null: nobody listens to them. */
  private emitters: Emitters | null = null
  /** What happens to rooms here is known to the gateway already. */
  private quiet = false

  constructor(node: EvenkeelNode, server: ServerView, options: CheckedOptions, logger: Logger) {
    this.node = node
    this.nodeId = node.id
    this.groups = node.groups
    this.slot = slotOf(node.instance)
    this.server = server
    this.options = options
    this.logger = logger
    this.remote = new Remote(this)
    this.ghosts = new Ghosts(options.ghostMs, {
      operate: this.remote.operate,
      quietly: (run) => this.quietly(run),
    })
    this.adapterRooms = options.rooms === 'adapter' ? this.ownRooms(node.instance) : null
    if (this.adapterRooms === null) replaceAdapters(server, this)
    const own = server.engine
    this.engine = new VirtualEngine(() => {
      own?.close()
      this.serverClosed()
    })
    server.bind(this.engine)
    for (const namespace of server._nsps.values()) this.adopt(namespace)
    server.sockets.on('new_namespace', (namespace: NamespaceView) => this.adopt(namespace))
  }

  private ownRooms(instance: string): AdapterRooms {
    return new AdapterRooms({
      instance,
      joined: (...change) => this.joined(...change),
      left: (...change) => this.left(...change),
      ended: (...change) => this.ended(...change),
      isHanded: (namespace, id) => this.connectionOf(namespace, id)?.phase === 'handed',
      served: (session) => this.byId.get(session),
      quietly: (run) => this.quietly(run),
    })
  }

  private adopt(namespace: NamespaceView): void {
    adoptNamespace(namespace, this.slot)
    this.adapterRooms?.adopt(namespace)
  }

  /** Resolves when emitters are heard, or Redis is not there: then it is tried on. */
  async begin(): Promise<void> {
    const { emitters } = this.options
    if (emitters === undefined) return
    // Redis and MessagePack are loaded where they are used.
    const { Emitters } = await import('./emitters.ts')
    this.emitters = new Emitters(emitters, emittersHost(this.remote, this, this.logger))
    await this.emitters.start()
  }

  stop(): void {
    this.emitters?.close()
  }

  /** The application has called `io.close()`: its clients come back at other nodes. */
  private serverClosed(): void {
    for (const session of [...this.connections.keys()])
      session.close(closeServiceRestart, 'the server has been closed')
    this.stop()
    void this.node.stop()
  }

  // Sessions.

  async prepare(session: Session): Promise<void> {
    const namespaces = this.snapshotOf(session)
    if (namespaces === null) return
    const connection = this.shadow(session, namespaces)
    await this.enter(connection)
    await Promise.all([...connection.imports.values()].map(({ letIn }) => letIn))
    await this.adapterRooms?.prepare(connection)
  }

  async open(session: Session): Promise<void> {
    if (session.meta.transport !== 'socket.io') {
      session.close(closeUnsupportedData, 'this node serves Socket.IO clients; connect to /socket.io/')
      return
    }
    const known = this.connections.get(session)
    if (known !== undefined && known.phase !== 'shadow') {
      // The move was called off.
      known.opened()
      this.adapterRooms?.stay(known)
      return
    }
    const namespaces = session.recovered ? this.snapshotOf(session) : null
    if (namespaces !== null) {
      const cause = known === undefined ? 'recovery' : 'migration'
      ;(session as NodeSession).reportContinued({ tier: 'exact', cause })
      await this.continue(known ?? this.shadow(session, namespaces), namespaces, known !== undefined)
      return
    }
    if (known !== undefined) this.forget(known, 'transport close')
    const connection = this.connect(session)
    connection.opened()
    await this.enter(connection).catch(() => session.close(closeServiceRestart, 'refused by a middleware'))
    if (session.recovered) this.beginAnew(connection)
  }

  message(session: Session, data: string | Uint8Array): void {
    const connection = this.connections.get(session)
    if (connection === undefined) return
    if (typeof data !== 'string' && isNote(data)) {
      this.noted(connection, decodeNote(data as Buffer))
      return
    }
    const packet = typeof data === 'string' ? data : (data as Buffer)
    const head = packetHead(messageHeader(packet))
    const { type, ack } = head
    const isAck = type === PacketType.ack || type === PacketType.binaryAck
    // Who begins with an acknowledgement is closed by Socket.IO, as with any packet but a CONNECT.
    const begins = !session.recovered && connection.isNowhere
    if (isAck && ack !== null && !begins) {
      const { link } = connection.session.host
      if (!this.remote.acknowledged(ack, session.id, packet, link)) this.acknowledged(session.id, packet)
    } else {
      connection.receive(packet, head)
    }
    if (this.options.saveMs > 0) saveSoon(connection, this.options.saveMs, this.options.exportState)
  }

  async close(session: Session, { cause, reason }: CloseReason): Promise<void> {
    const connection = this.connections.get(session)
    if (connection === undefined) return
    if (cause === 'migrated' && session.open) await exportSession(connection, this.options, this.adapterRooms)
    else if (cause === 'node') this.forget(connection, 'forced close')
    else this.forget(connection, knownReasons.has(reason) ? reason : 'transport close')
  }

  released(session: Session): void {
    const connection = this.connections.get(session)
    if (connection === undefined) return
    if (connection.phase === 'handed') {
      this.remove(connection)
      this.adapterRooms?.forget(connection)
      this.ghosts.add(connection)
    } else {
      this.forget(connection, 'transport close')
    }
  }

  /** Handlers that still run are waited for. */
  async drained(): Promise<void> {
    await this.ghosts.silent()
    this.stop()
  }

  // The adapter.

  get peerCount(): number {
    return this.remote.peerCount
  }

  joined(namespace: string, id: string, rooms: Iterable<Room>): void {
    this.changeRooms(namespace, id, 'join', [...rooms])
  }

  left(namespace: string, id: string, rooms: Iterable<Room>): void {
    this.changeRooms(namespace, id, 'leave', [...rooms])
  }

  ended(namespace: string, id: string): void {
    const connection = this.connectionOf(namespace, id)
    if (connection === undefined || this.quiet) return
    connection.sockets.delete(namespace)
    connection.ids.delete(namespace)
    if (connection.phase === 'open') {
      connection.session.changeRooms({ scope: namespace, end: true })
      saveSoon(connection, 0, this.options.exportState)
    } else if (connection.phase === 'handed') {
      this.remote.operate(namespace, { rooms: new Set([id]) }, { op: 'disconnect', close: false })
    }
  }

  broadcast(...args: Parameters<AdapterHost['broadcast']>): void {
    this.remote.broadcast(...args)
  }

  broadcastWithAck(...args: Parameters<AdapterHost['broadcastWithAck']>): Promise<number> {
    return this.remote.broadcastWithAck(...args)
  }

  describe(...args: Parameters<AdapterHost['describe']>): Promise<{ id: string }[]> {
    return this.remote.describe(...args)
  }

  operate(...args: Parameters<AdapterHost['operate']>): void {
    this.remote.operate(...args)
  }

  serverSideEmit(namespace: NamespaceView, packet: unknown[]): void {
    this.remote.serverSideEmit(namespace, packet)
  }

  // Connections.

  closing(connection: VirtualConnection): void {
    if (connection.phase === 'open') {
      connection.session.close()
    } else if (connection.phase === 'handed' || connection.phase === 'ghost') {
      for (const [namespace, id] of connection.ids) {
        this.remote.operate(namespace, { rooms: new Set([id]) }, { op: 'disconnect', close: true })
      }
    }
  }

  peersChanged(): void {
    this.emitters?.peersChanged()
  }

  changed(connection: VirtualConnection): void {
    saveSoon(connection, 0, this.options.exportState)
  }

  /** A client acknowledges an event of this node: of its present connection, or of one that it had here before. */
  acknowledged(session: string, packet: string | Buffer): void {
    const { namespace } = packetHead(messageHeader(packet))
    const present = this.byId.get(session)
    const speakers = [...(present === undefined ? [] : [present]), ...this.ghosts.of(session)]
    // Socket.IO closes a client that speaks of a namespace in which it is not.
    for (const connection of speakers)
      if (connection.sockets.get(namespace)?.connected) connection.feed(packet)
  }

  // Inside.

  private connect(session: Session, phase: 'open' | 'shadow' = 'open'): VirtualConnection {
    const connection = new VirtualConnection(session as NodeSession, phase, this.engine, this)
    this.connections.set(session, connection)
    this.byId.set(session.id, connection)
    this.engine.clientsCount++
    return connection
  }

  private shadow(session: Session, namespaces: NamespaceSnapshot[]): VirtualConnection {
    const connection = this.connect(session, 'shadow')
    for (const one of namespaces) connection.imports.set(one.nsp, new Import(one))
    return connection
  }

  /** Lets Socket.IO have the connection, and connects its namespaces as the client did. Rejects with what a middleware of the engine says. */
  private async enter(connection: VirtualConnection): Promise<void> {
    if (this.engine.hasMiddlewares) await this.engine.runMiddlewares(connection.request)
    if (connection.readyState !== 'open') return
    this.engine.emit('connection', connection)
    for (const { from } of connection.imports.values()) this.feedConnect(connection, from)
  }

  private feedConnect(connection: VirtualConnection, { nsp, auth }: NamespaceSnapshot): void {
    connection.feed(`${PacketType.connect}${nsp === '/' ? '' : `${nsp},`}${JSON.stringify(auth ?? {})}`)
  }

  /** The session is here, with the state that it had when it left, or was saved last. */
  private async continue(
    connection: VirtualConnection,
    namespaces: NamespaceSnapshot[],
    isPrepared: boolean,
  ): Promise<void> {
    if (!isPrepared) await this.enter(connection)
    const wanted = new Map(namespaces.map((one) => [one.nsp, one]))
    for (const [name] of connection.imports) if (!wanted.has(name)) this.dropImport(connection, name)
    for (const one of namespaces) {
      if (connection.imports.has(one.nsp)) continue
      connection.imports.set(one.nsp, new Import(one))
      this.feedConnect(connection, one)
    }
    connection.phase = 'open'
    for (const [name, { letIn }] of [...connection.imports]) {
      const result = await letIn.catch(() => null)
      connection.imports.delete(name)
      const namespace = this.server._nsps.get(name)
      if (connection.phase !== 'open') return
      if (result === null || namespace === undefined) {
        // It was let in elsewhere, and cannot be here.
        connection.session.send(`${PacketType.disconnect}${name === '/' ? '' : `${name},`}`)
        connection.session.changeRooms({ scope: name, end: true })
        continue
      }
      await this.attach(namespace, connection, result, wanted.get(name)!)
    }
    connection.opened()
    saveSoon(connection, 0, this.options.exportState)
  }

  private attach(
    namespace: NamespaceView,
    connection: VirtualConnection,
    result: Awaited<Import['letIn']>,
    final: NamespaceSnapshot,
  ): Promise<void> {
    if (final.app !== undefined) this.options.importState?.(result.socket as never, final.app)
    // Up to its first await it is synchronous: the rooms are joined when it returns.
    return this.quietly(() =>
      attach(namespace, connection, result, final, connectionHandlersMs, {
        arrived: (socket) =>
          this.quietly(() => this.adapterRooms?.catchUp(connection, socket, final.heard ?? null), false),
        failed: (error) =>
          this.logger.error(`a connection handler failed: ${String((error as Error)?.stack ?? error)}`),
      }),
    )
  }

  private dropImport(connection: VirtualConnection, name: string): void {
    connection.imports.delete(name)
    const id = connection.ids.get(name)
    connection.ids.delete(name)
    if (id !== undefined) this.server._nsps.get(name)?._preConnectSockets?.delete(id)
  }

  /** Nothing is known of the session: its client connects its namespaces once more, without noticing more than that. */
  private beginAnew(connection: VirtualConnection): void {
    const { session } = connection
    session.reportContinued({ tier: this.options.fallback, cause: 'recovery' })
    if (this.options.fallback === 'close') {
      session.close(closeServiceRestart, 'the session could not be recovered')
      return
    }
    session.changeRooms({ reset: true })
    session.send(encodeNote({ replay: true }))
  }

  private noted(connection: VirtualConnection, note: Record<string, unknown>): void {
    // Gateways and other nodes write them.
    const { transport, op, nsp, rooms, close, request, node } = note as unknown as Note
    if (transport !== undefined) {
      connection.upgradedTo(transport)
      return
    }
    const socket = connection.sockets.get(nsp) ?? null
    if (op === 'describe') this.remote.described(node, request, socket)
    else if (socket === null) return
    else if (op === 'join') socket.join(rooms)
    else if (op === 'leave') for (const room of rooms) socket.leave(room)
    else if (op === 'disconnect') socket.disconnect(close)
  }

  private changeRooms(namespace: string, id: string, op: 'join' | 'leave', rooms: Room[]): void {
    const connection = this.connectionOf(namespace, id)
    if (connection === undefined || this.quiet || rooms.length === 0) return
    if (connection.phase === 'open') {
      // With an adapter of its own it can still be reached by its id.
      const known = this.adapterRooms === null ? roomNames(rooms) : rooms.filter((room) => room === id)
      for (const some of portions(known)) connection.session.changeRooms({ scope: namespace, [op]: some })
      saveSoon(connection, 0, this.options.exportState)
    } else if (connection.phase === 'handed') {
      this.remote.operate(namespace, { rooms: new Set([id]) }, { op, rooms })
    }
  }

  private connectionOf(namespace: string, id: string): VirtualConnection | undefined {
    const socket = this.server._nsps.get(namespace)?.sockets.get(id)
    return socket?.conn instanceof VirtualConnection ? socket.conn : undefined
  }

  private snapshotOf(session: Session): NamespaceSnapshot[] | null {
    if (session.meta.transport !== 'socket.io') return null
    try {
      return readSnapshot(session.state)
    } catch (error) {
      this.logger.warn(`the state of session ${session.id} cannot be read: ${String(error)}`)
      return null
    }
  }

  private forget(connection: VirtualConnection, reason: string): void {
    this.remove(connection)
    this.adapterRooms?.forget(connection)
    for (const [name] of connection.imports) this.dropImport(connection, name)
    connection.end(reason)
    connection.sockets.clear()
  }

  private remove(connection: VirtualConnection): void {
    this.connections.delete(connection.session)
    if (this.byId.get(connection.id) === connection) this.byId.delete(connection.id)
    this.engine.clientsCount--
  }

  private quietly<T>(run: () => T, quiet = true): T {
    const before = this.quiet
    this.quiet = quiet
    try {
      return run()
    } finally {
      this.quiet = before
    }
  }
}

interface Note {
  transport?: string
  op: string
  nsp: string
  rooms: Room[]
  close: boolean
  request: number
  node: string
}

function emittersHost(
  remote: Remote,
  { groups, nodeId, server }: SocketIoNode,
  logger: Logger,
): EmittersHost {
  return {
    groups,
    nodeId,
    warn: (message) => logger.warn(message),
    emit: (way, once, nsp, to, { data }) => {
      const message = encodePacket(server.encoder, { type: PacketType.event, nsp, data })
      remote.emitOnce(way, once, nsp, to, message)
    },
    operate: (...operation) => remote.operateOnce(...operation),
    serverSideEmit: (nsp, args) => server._nsps.get(nsp)?._onServerSideEmit(args),
  }
}
