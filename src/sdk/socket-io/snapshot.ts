import { deserialize, serialize } from 'node:v8'
import type { Json } from '../types.ts'
import type { HeardUpTo } from './broadcast-log.ts'
import type { Room, SocketView } from './views.ts'
import type { VirtualConnection } from './virtual-connection.ts'

/** What a namespace of a session is on any node. */
export interface NamespaceSnapshot {
  nsp: string
  id: string
  pid: string | undefined
  rooms: Room[]
  data: Record<string, unknown>
  auth: Record<string, unknown>
  time: string
  issued: number
  /** What the application exported. */
  app: unknown
  /** Of a session that leaves: how far it has heard what servers broadcast by an adapter of their own. */
  heard?: HeardUpTo | undefined
}

const version = 1

/** Throws what cannot be cloned: a function in `socket.data`, say. */
export function takeSnapshot(
  { sockets }: VirtualConnection,
  exportState: ((socket: never) => unknown) | undefined,
  heardBy: (socket: SocketView) => HeardUpTo | undefined = () => undefined,
): Json {
  const namespaces: NamespaceSnapshot[] = []
  for (const [nsp, socket] of sockets) {
    if (socket.connected) namespaces.push({ ...snapshotOf(nsp, socket, exportState), heard: heardBy(socket) })
  }
  // JSON would lose dates, maps, buffers and what refers to itself.
  return { version, namespaces: serialize(namespaces).toString('base64') }
}

/** Null for what no snapshot is: there is none yet, or it is another application's. */
export function readSnapshot(state: Json | undefined): NamespaceSnapshot[] | null {
  if (typeof state !== 'object' || state === null || Array.isArray(state)) return null
  if (state.version !== version || typeof state.namespaces !== 'string') return null
  return deserialize(Buffer.from(state.namespaces, 'base64')) as NamespaceSnapshot[]
}

function snapshotOf(
  nsp: string,
  socket: SocketView,
  exportState: ((socket: never) => unknown) | undefined,
): NamespaceSnapshot {
  const { id, pid, data, handshake } = socket
  const { auth, time, issued } = handshake
  const app = exportState?.(socket as never)
  return { nsp, id, pid, rooms: [...socket.rooms], data, auth, time, issued, app }
}
