import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { WebSocket, type WebSocketServer, WebSocketServer as Wss } from 'ws'
import { startTestGateway, type TestGateway } from './in-process.ts'
import { until } from './until.ts'

/** A server that knows nothing of Evenkeel. */
export interface TestUpstream {
  readonly url: string
  /** `host:port`, as operators see it. */
  readonly id: string
  /** Sockets that are open now. */
  readonly sockets: Set<Socket>
  /** Connections over which something came; a probe says nothing. */
  readonly accepted: number
  /** Resolves once no socket is open. */
  empty(): Promise<void>
  /** Cuts all and stops listening. */
  kill(): Promise<void>
}

export async function startTcpUpstream(server: Server): Promise<TestUpstream> {
  const sockets = new Set<Socket>()
  const all: Socket[] = []
  server.on('connection', (socket: Socket) => {
    all.push(socket)
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const kill = async () => {
    for (const socket of sockets) socket.resetAndDestroy()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  }
  onTestFinished(kill)
  const looks = new Set<() => void>()
  server.on('connection', (socket: Socket) =>
    socket.on('close', () => {
      for (const look of looks) look()
    }),
  )
  return {
    empty: () => until(() => sockets.size === 0, looks, { what: 'the end of all sockets' }),
    url: `http://127.0.0.1:${port}`,
    id: `127.0.0.1:${port}`,
    sockets,
    get accepted() {
      return all.filter(({ bytesRead }) => bytesRead > 0).length
    },
    kill,
  }
}

/** A raw server: what it says to whoever connects is the test's. */
export function startRawUpstream(connected: (socket: Socket) => void): Promise<TestUpstream> {
  const server = createServer(connected)
  server.on('connection', (socket) => socket.on('error', () => {}))
  return startTcpUpstream(server)
}

export function startHttpUpstream(listener: RequestListener): Promise<TestUpstream> {
  return startTcpUpstream(createHttpServer({ keepAliveTimeout: 5_000 }, listener))
}

export interface WsUpstream extends TestUpstream {
  readonly wss: WebSocketServer
}

/** A plain `ws` server. */
export async function startWsUpstream(
  connection: (ws: WebSocket, request: IncomingMessage) => void,
  handleProtocols?: (offered: Set<string>) => string | false,
): Promise<WsUpstream> {
  const server = createHttpServer()
  const wss = new Wss({ server, ...(handleProtocols === undefined ? {} : { handleProtocols }) })
  wss.on('connection', (ws, request) => {
    ws.on('error', () => {})
    connection(ws, request)
  })
  const upstream = await startTcpUpstream(server)
  return Object.assign(Object.create(upstream), { wss }) as WsUpstream
}

export interface UpstreamGatewayOptions {
  migrate?: 'drain' | 'redial'
  /** Default `/*`. */
  path?: string
  config?: Parameters<typeof startTestGateway>[0]
}

/** A gateway whose pool `legacy` has these upstreams. */
export async function startUpstreamGateway(
  upstreams: readonly (TestUpstream | string)[],
  { migrate = 'drain', path = '/*', config = {} }: UpstreamGatewayOptions = {},
): Promise<TestGateway> {
  const urls = upstreams.map((one) => (typeof one === 'string' ? one : one.url))
  // After the first one probes come only where traffic fails, so that tests see what traffic alone does.
  const probe = { intervalMs: 600_000, timeoutMs: 5_000, failures: 3 }
  return startTestGateway({
    pools: { legacy: { upstreams: urls, migrate, probe } },
    routes: [{ path, pool: 'legacy' }],
    ...config,
  } as never)
}

export async function connectWs(
  gateway: TestGateway,
  path = '/',
  protocols: string[] = [],
  options: ConstructorParameters<typeof WebSocket>[2] = {},
): Promise<WebSocket> {
  const ws = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}${path}`, protocols, options)
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

/** The session of a client that has gone ends a moment later, when its upstream knows. */
export async function noSessions(gateway: TestGateway): Promise<void> {
  const looks = new Set<() => void>()
  const timer = setInterval(() => {
    for (const look of looks) look()
  }, 5)
  try {
    await until(() => gateway.operator.sessions().sessions.length === 0, looks, {
      what: 'the end of all sessions',
    })
  } finally {
    clearInterval(timer)
  }
}

/** The value that stays the same for a second: what moves no more. */
export async function settledValue(read: () => number): Promise<number> {
  let value = read()
  for (let same = 0; same < 10; same++) {
    await sleep(100)
    if (read() !== value) same = -1
    value = read()
  }
  return value
}
