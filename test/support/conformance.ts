import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server as EngineServer } from 'engine.io'
import { createNode } from 'evenkeel/sdk'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'
import { echo, launchTestGateway } from './in-process.ts'

const quiet = { info() {}, warn() {}, error() {} }

export interface Timing {
  /** Default 25 s. */
  pingInterval?: number
  /** Default 20 s. */
  pingTimeout?: number
  /** Default 45 s. */
  connectTimeout?: number
}

export interface Running {
  /** With its path. */
  readonly base: string
  stop(): Promise<void>
}

export interface Target {
  readonly name: string
  start(timing: Timing, app: (io: Server) => void): Promise<Running>
}

/** Bytes; smaller than the default, so that what is larger is quickly made. */
export const maxPayload = 100_000

const cors = { origin: true, credentials: true }

async function plain(path: string, use: (http: ReturnType<typeof createServer>) => void): Promise<Running> {
  const http = createServer()
  use(http)
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    base: `http://127.0.0.1:${(http.address() as AddressInfo).port}${path}`,
    async stop() {
      http.close()
      http.closeAllConnections()
    },
  }
}

async function gateway(
  path: string,
  { pingInterval = 25_000, pingTimeout = 20_000 }: Timing,
  join: (link: string) => { ready: Promise<void>; stop(): Promise<void> },
): Promise<Running> {
  const running = await launchTestGateway({
    allowedOrigins: '*',
    limits: { idlePingMs: pingInterval, idlePongMs: pingTimeout, messageBytes: maxPayload },
  })
  const node = join(running.linkUrl)
  await node.ready
  return {
    base: `${running.httpUrl}${path}`,
    async stop() {
      await node.stop()
      await running.close()
    },
  }
}

/** Servers whose messages are Socket.IO packets. */
export const socketIoTargets: readonly Target[] = [
  {
    name: 'a plain Socket.IO server',
    start: (timing, app) =>
      plain('/socket.io/', (http) => {
        app(new Server(http, { ...timing, maxHttpBufferSize: maxPayload, cors }))
      }),
  },
  {
    name: 'a gateway with a Socket.IO node',
    start: ({ connectTimeout = 45_000, ...timing }, app) =>
      gateway('/socket.io/', timing, (link) => {
        const io = new Server({ connectTimeout })
        app(io)
        return attachSocketIO(io, { id: 'a', gateways: [link], drainOnSigterm: false, logger: quiet })
      }),
  },
]

/** Servers that send every message back. */
export const engineIoTargets: readonly Target[] = [
  {
    name: 'a plain Engine.IO server',
    start: ({ connectTimeout: _, ...timing }) =>
      plain('/engine.io/', (http) => {
        const engine = new EngineServer({ ...timing, maxHttpBufferSize: maxPayload, cors })
        engine.attach(http, { path: '/engine.io' })
        engine.on('connection', (socket) => {
          socket.on('data', (data: string | Buffer) => socket.send(data))
        })
      }),
  },
  {
    name: 'a gateway with a node',
    start: (timing) =>
      gateway('/engine.io/', timing, (link) => {
        const node = createNode({ id: 'a', gateways: [link], drainOnSigterm: false, logger: quiet })
        node.serve(echo)
        return { ready: node.start(), stop: () => node.stop() }
      }),
  },
]

/** Servers of one target, one for each timing that is asked for; `stop` ends them all. */
export class Servers {
  private readonly target: Target
  private readonly app: (io: Server) => void
  private readonly running = new Map<string, Promise<Running>>()

  constructor(target: Target, app: (io: Server) => void) {
    this.target = target
    this.app = app
  }

  async base(timing: Timing = {}): Promise<string> {
    const key = JSON.stringify(timing)
    let running = this.running.get(key)
    if (running === undefined) {
      running = this.target.start(timing, this.app)
      this.running.set(key, running)
    }
    return (await running).base
  }

  async stop(): Promise<void> {
    const all = await Promise.all(this.running.values())
    await Promise.all(all.map((one) => one.stop()))
  }
}
