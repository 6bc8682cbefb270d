import { countInSlot } from './ack-ids.ts'
import type { NamespaceSnapshot } from './snapshot.ts'
import type { NamespaceView, SocketView } from './views.ts'
import { VirtualConnection } from './virtual-connection.ts'

interface LetIn {
  socket: SocketView
  attached: (socket: SocketView) => void
}

/** A namespace of a session on its way here: its middlewares run first, and it is attached when the session comes. */
export class Import {
  readonly from: NamespaceSnapshot
  /** The middlewares have let it in; rejects when they have not. */
  readonly letIn: Promise<LetIn>
  rejected!: (error: Error) => void
  ready!: (result: LetIn) => void

  constructor(from: NamespaceSnapshot) {
    this.from = from
    this.letIn = new Promise((resolve, reject) => {
      this.ready = resolve
      this.rejected = reject
    })
    // Whoever needs it awaits it.
    this.letIn.catch(() => {})
  }
}

/** Makes the socket that Socket.IO has made for a synthetic CONNECT the one that the client knows. */
function takeOver(socket: SocketView, { id, pid, data, auth, time, issued }: NamespaceSnapshot): void {
  socket.id = id
  socket.pid = pid
  socket.data = data
  Object.assign(socket.handshake, { auth, time, issued })
}

/** What `Namespace._doConnect` does, but handlers that are async are waited for, at most `patienceMs`. `arrived`: it is in its rooms, and no handler has run. */
export async function attach(
  namespace: NamespaceView,
  connection: VirtualConnection,
  { socket, attached }: LetIn,
  final: NamespaceSnapshot,
  patienceMs: number,
  { arrived, failed }: { arrived(socket: SocketView): void; failed(error: unknown): void },
): Promise<void> {
  for (const key of Object.keys(socket.data)) if (!(key in final.data)) delete socket.data[key]
  Object.assign(socket.data, final.data)
  namespace.adapter.addAll(socket.id, new Set(final.rooms))
  namespace._preConnectSockets?.delete(socket.id)
  namespace.sockets.set(socket.id, socket)
  connection.sockets.set(namespace.name, socket)
  connection.swallowConnect = true
  socket._onconnect()
  connection.swallowConnect = false
  attached(socket)
  arrived(socket)
  const running: unknown[] = []
  for (const event of ['connect', 'connection']) {
    for (const listener of namespace.rawListeners(event)) {
      try {
        running.push(listener.call(namespace, socket))
      } catch (error) {
        failed(error)
      }
    }
  }
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise((resolve) => {
    timer = setTimeout(resolve, patienceMs)
  })
  const settled = Promise.allSettled(running).then((results) => {
    for (const result of results) if (result.status === 'rejected') failed(result.reason)
  })
  await Promise.race([settled, patience])
  clearTimeout(timer)
}

/**
 * Has the namespace count acknowledgements in the slot, and stop sockets that are on their way here where their middlewares have let them in:
 * they are attached when the session comes.
 */
export function adoptNamespace(namespace: NamespaceView, slot: number): void {
  countInSlot(namespace, slot)
  const createSocket = namespace._createSocket.bind(namespace)
  namespace._createSocket = async (client, auth) => {
    const { conn } = client
    const pending = conn instanceof VirtualConnection ? conn.imports.get(namespace.name) : undefined
    // What its client once said of a session before must not be recovered again.
    const said = pending === undefined ? auth : { ...auth, pid: undefined, offset: undefined }
    const socket = await createSocket(client, said)
    if (!(conn instanceof VirtualConnection)) return socket
    if (pending !== undefined) takeOver(socket, pending.from)
    conn.ids.set(namespace.name, socket.id)
    return socket
  }
  const run = namespace.run.bind(namespace)
  namespace.run = (socket, done) => {
    // Not before: with connection state recovery Socket.IO would pass over the middlewares.
    if (socket.conn instanceof VirtualConnection && socket.conn.imports.has(namespace.name))
      socket.recovered = true
    run(socket, done)
  }
  const doConnect = namespace._doConnect.bind(namespace)
  namespace._doConnect = (socket, attached) => {
    const { conn } = socket
    const pending = conn instanceof VirtualConnection ? conn.imports.get(namespace.name) : undefined
    if (pending !== undefined) {
      pending.ready({ socket, attached })
      return
    }
    if (conn instanceof VirtualConnection) conn.sockets.set(namespace.name, socket)
    doConnect(socket, attached)
  }
}
