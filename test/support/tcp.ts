import { once } from 'node:events'
import { connect, type Socket, type TcpSocketConnectOpts } from 'node:net'
import { onTestFinished } from 'vitest'
import { startTestGateway, type TestGateway } from './in-process.ts'
import type { TestUpstream } from './upstreams.ts'

// After the first one probes come only where traffic fails, so that tests see what traffic alone does.
const probe = { intervalMs: 600_000, timeoutMs: 5_000, failures: 3 }

/** Pools of upstreams by name, as the configuration has them. */
export function tcpPools(upstreams: Record<string, readonly TestUpstream[]>, more: object = {}): object {
  const pools = Object.entries(upstreams).map(([name, list]) => [
    name,
    { upstreams: list.map(({ id }) => `tcp://${id}`), migrate: 'drain', probe, ...more },
  ])
  return Object.fromEntries(pools)
}

/** A gateway whose `tcp` listener leads to pool `db` with these upstreams. */
export function startTcpGateway(
  upstreams: readonly TestUpstream[],
  listener: object = {},
  config: object = {},
  pool: object = {},
): Promise<TestGateway> {
  return startTestGateway({
    pools: tcpPools({ db: upstreams }, pool),
    tcp: [tcpListener({ pool: 'db', ...listener })],
    ...config,
  } as never)
}

export function tcpListener(listener: object): object {
  return { host: '127.0.0.1', port: 0, idleMs: 3_600_000, ...listener }
}

/** Of what a client is sent so much is kept. */
const textMost = 1_000_000

export interface TcpClient {
  readonly socket: Socket
  /** What it was sent so far. */
  text(): string
  /** Resolves once it was sent so much, or more. */
  received(bytes: number): Promise<string>
  /** Resolves with all that it was sent when the connection is over. */
  readonly all: Promise<string>
}

export async function connectTcp(
  { tcpPorts }: Pick<TestGateway, 'tcpPorts'>,
  options: Partial<TcpSocketConnectOpts> = {},
): Promise<TcpClient> {
  const socket = connect({ port: tcpPorts[0]!, host: '127.0.0.1', allowHalfOpen: true, ...options })
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  socket.on('end', () => socket.end())
  let text = ''
  socket.on('data', (data) => {
    if (text.length < textMost) text += data.toString('latin1')
  })
  const all = new Promise<string>((resolve) => {
    socket.on('close', () => resolve(text))
  })
  await Promise.race([once(socket, 'connect').catch(() => {}), all])
  return {
    socket,
    text: () => text,
    async received(bytes) {
      while (text.length < bytes) {
        if (socket.destroyed) throw new Error(`the connection ended after ${text.length} bytes`)
        await Promise.race([once(socket, 'data'), all])
      }
      return text
    },
    all,
  }
}
