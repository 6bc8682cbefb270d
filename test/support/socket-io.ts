import { createRequire } from 'node:module'
import { type AttachedServer, attachSocketIO, type SocketIoOptions } from 'evenkeel/socket.io'
import type { Server, ServerOptions, Socket as ServerSocket } from 'socket.io'
import { io as connect, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client'
import { onTestFinished, vi } from 'vitest'
import type { TestGateway } from './in-process.ts'
import { LedgerClient } from './socket-io-ledger.ts'

const quiet = { info() {}, warn() {}, error() {} }

export interface SocketIoNode extends AttachedServer {
  readonly id: string
  readonly io: Server
}

export interface SocketIoNodeOptions extends Partial<SocketIoOptions> {
  id: string
  /** Of socket.io; default the newest. */
  package?: 'socket.io' | 'socket.io-4.6' | 'socket.io-4.7'
  /** Set at the server before it is attached. */
  adapter?: ServerOptions['adapter']
  /** Of the server. */
  server?: Partial<ServerOptions>
}

/** An ordinary Socket.IO server that is attached; it ends with the test. `app` says what it does. */
export async function startSocketIoNode(
  gateways: readonly Pick<TestGateway, 'linkUrl'>[],
  app: (io: Server, id: string) => void,
  { id, package: name = 'socket.io', adapter, server = {}, ...options }: SocketIoNodeOptions,
): Promise<SocketIoNode> {
  const { Server: SomeServer } = createRequire(import.meta.url)(name) as { Server: typeof Server }
  const io = new SomeServer({ ...server, ...(adapter === undefined ? {} : { adapter }) })
  const attached = attachSocketIO(io, {
    id,
    ...(options.redis === undefined ? { gateways: gateways.map(({ linkUrl }) => linkUrl) } : {}),
    drainOnSigterm: false,
    logger: quiet,
    ...options,
  })
  app(io, id)
  onTestFinished(() => attached.stop())
  await attached.ready
  return { ...attached, id, io }
}

export interface TestClient extends Socket {
  /** Disconnects that it has seen. */
  readonly losses: string[]
  /** Every id that it had. */
  readonly idsSeen: string[]
}

/** A real client that is connected; it ends with the test. */
export async function connectClient(
  { httpUrl }: Pick<TestGateway, 'httpUrl'>,
  options: Partial<ManagerOptions & SocketOptions> = {},
  namespace = '/',
): Promise<TestClient> {
  const client = clientOf({ httpUrl }, options, namespace)
  await until(() => client.connected)
  return client
}

export function clientOf(
  { httpUrl }: Pick<TestGateway, 'httpUrl'>,
  options: Partial<ManagerOptions & SocketOptions> = {},
  namespace = '/',
): TestClient {
  const socket = connect(`${httpUrl}${namespace}`, { forceNew: true, reconnection: false, ...options })
  const client = Object.assign(socket, { losses: [] as string[], idsSeen: [] as string[] })
  client.on('disconnect', (reason) => client.losses.push(reason))
  client.on('connect', () => client.idsSeen.push(client.id!))
  onTestFinished(() => {
    socket.disconnect()
  })
  return client
}

/** A client that keeps account of what the nodes of `ledgerApp` say; it ends with the test. */
export async function connectLedgerClient(
  gateway: Pick<TestGateway, 'httpUrl'>,
  transports: string[],
): Promise<LedgerClient> {
  const client = new LedgerClient(clientOf(gateway, { transports }))
  await until(() => client.present !== null)
  return client
}

export type { ServerSocket }

/** Looks again and again: what a library's client has come to is not always an event. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitUntil(condition, { timeout: 20_000, interval: 5 })
}
