import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import type { RunCounters } from '../../src/gateway/run-host.ts'
import type { Runs } from '../../src/gateway/runs.ts'
import { startTestGateway, type TestGateway } from './in-process.ts'
import { type Child, startChild } from './processes.ts'

/** A language model in a process of its own. */
export interface LlmServer {
  readonly url: string
  readonly id: string
  readonly child: Child
  state(): Promise<LlmState>
  /** Resolves with the state once it is so. */
  until(holds: (state: LlmState) => boolean): Promise<LlmState>
  kill(signal?: NodeJS.Signals): Promise<void>
}

export interface LlmState {
  readonly asked: number
  readonly open: number
  /** By which requests came. */
  readonly connections: number
  /** How many events each client had been sent that went before the end. */
  readonly gone: number[]
  readonly headers: Record<string, string>[]
}

const untilMs = 10_000

export async function startLlmServer(name = 'm1', port = 0): Promise<LlmServer> {
  const child = startChild({
    name,
    script: 'test/support/llm-server-process.ts',
    args: [name, String(port)],
    ipc: true,
  })
  onTestFinished(() => void child.process.kill('SIGKILL'))
  const [message] = (await once(child.process, 'message')) as [{ port: number }]
  const url = `http://127.0.0.1:${message.port}`
  const state = async () => (await (await fetch(`${url}/state`)).json()) as LlmState
  return {
    url,
    id: `127.0.0.1:${message.port}`,
    child,
    state,
    async until(holds) {
      for (const from = performance.now(); ; ) {
        const now = await state()
        if (holds(now)) return now
        if (performance.now() - from > untilMs) throw new Error(`still ${JSON.stringify(now)}`)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    },
    async kill(signal = 'SIGKILL') {
      child.process.kill(signal)
      if (signal === 'SIGKILL') await child.exited
    },
  }
}

type Servers = readonly (Pick<LlmServer, 'url'> | string | { url: string; weight: number })[]

export interface LlmGatewayOptions {
  /** Of each of the routes. */
  route?: object
  limits?: object
  redis?: string
  gatewayId?: string
}

/** A gateway in front of these models: `/v1/*` and, for the AI SDK, `/api/chat`. */
export function startLlmGateway(servers: Servers, options: LlmGatewayOptions = {}): Promise<TestGateway> {
  return startTestGateway(llmConfig(servers, options) as never)
}

/** As a file would have it, apart from `limits`, of which only those are there that are given. */
export function llmConfig(
  servers: Servers,
  { route = {}, limits = {}, ...config }: LlmGatewayOptions = {},
): Record<string, unknown> {
  const upstreams = servers.map((one) =>
    typeof one === 'string' ? one : 'weight' in one ? { url: one.url, weight: one.weight } : one.url,
  )
  const probe = { path: '/healthz', intervalMs: 200, timeoutMs: 1_000, failures: 2 }
  const llm = { pool: 'models', protocol: 'llm', ...route }
  return {
    pools: { models: { upstreams, migrate: 'drain', probe } },
    routes: [
      { path: '/v1/*', ...llm },
      { path: '/api/chat', ...llm, dialect: 'ai-sdk' },
      { path: '/api/*', pool: 'models' },
    ],
    limits,
    ...config,
  }
}

/** Of runs, since the gateway began. */
export function counters(gateway: TestGateway): RunCounters {
  return (gateway.runs as Runs).counters
}

export function ask(
  base: { readonly httpUrl: string } | { readonly url: string },
  path: string,
  model: string,
  headers: Record<string, string> = {},
  more: object = {},
  signal: AbortSignal | null = null,
): Promise<Response> {
  const url = 'httpUrl' in base ? base.httpUrl : base.url
  return fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model, stream: true, messages: [], ...more }),
    signal,
  })
}
