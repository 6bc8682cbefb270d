import { freePort } from '../ports.ts'
import {
  type Child,
  descendantsOf,
  firstMessage,
  startNodeScript,
  stopChild,
  waitUntilReady,
} from '../processes.ts'
import { type Application, engineIoPath, type Peer } from './peer.ts'

export interface NodeOptions {
  id: string
  weight?: number
  /** Keep about 200 B of state per session. */
  state?: boolean
}

export interface EvenkeelPeer extends Peer {
  name: 'evenkeel'
  admin: Admin
}

export interface RunningGateway {
  child: Child
  /** Workers included. */
  pids: number[]
  port: number
  internalPort: number
  admin: Admin
}

/** One gateway and its echo nodes. */
export async function startEvenkeel(
  nodes: readonly NodeOptions[] = [{ id: 'echo-1' }],
  kind: Application = 'plain',
): Promise<EvenkeelPeer> {
  const gateway = await startGateway()
  const { port, internalPort, admin } = gateway
  const children: Child[] = []
  try {
    for (const node of nodes) children.push(await startEchoNode(node, internalPort, kind))
    await waitUntilReady(gateway.child, () => admin.lists(nodes.map(({ id }) => id)))
  } catch (error) {
    // Half a peer would only disturb those that are measured.
    for (const child of [...children, gateway.child]) await stopChild(child)
    throw error
  }
  return {
    name: 'evenkeel',
    port,
    path: kind === 'plain' ? '/ws' : engineIoPath,
    gateway: gateway.pids,
    node: children.map(({ pid }) => pid),
    children: [...children, gateway.child],
    admin,
  }
}

export async function startGateway(more: readonly string[] = []): Promise<RunningGateway> {
  const [port, internalPort] = [await freePort(), await freePort()]
  const cli = new URL('../../src/cli/main.ts', import.meta.url)
  const ports = ['--port', String(port), '--internal-port', String(internalPort)]
  const args = ['gateway', '--host', '127.0.0.1', ...ports, ...more]
  const child = startNodeScript('evenkeel-gateway', cli, args, { ipc: false })
  const admin = new Admin(internalPort)
  try {
    await waitUntilReady(child, () => admin.ready())
  } catch (error) {
    await stopChild(child)
    throw error
  }
  const pids = [child.pid, ...descendantsOf(child.pid)]
  return { child, pids, port, internalPort, admin }
}

async function startEchoNode(
  { id, weight = 1, state = false }: NodeOptions,
  internalPort: number,
  kind: Application,
): Promise<Child> {
  const app = kind === 'plain' ? 'evenkeel-node' : 'socketio-node'
  const script = new URL(`../apps/${app}.ts`, import.meta.url)
  const args = ['--id', id, '--weight', String(weight), '--gateway', `ws://127.0.0.1:${internalPort}`]
  if (state) args.push('--state')
  const child = startNodeScript(`node-${id}`, script, args)
  await firstMessage(child)
  return child
}

export interface Operation {
  id: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  total: number
  moved: number
  failed: number
  pauseMs: { p50: number; p99: number } | null
  startedAt: number
  endedAt: number | null
}

export interface NodeView {
  id: string
  state: string
  sessions: number
}

/** The operator's API, as far as the benchmarks use it. */
export class Admin {
  #base: string

  constructor(internalPort: number) {
    this.#base = `http://127.0.0.1:${internalPort}`
  }

  /** Without a node a gateway may well say that it is not ready, but it answers. */
  async ready(): Promise<boolean> {
    await fetch(`${this.#base}/readyz`)
    return true
  }

  nodes(): Promise<NodeView[]> {
    return this.#call('GET', '/nodes')
  }

  async lists(ids: readonly string[]): Promise<boolean> {
    const nodes = await this.nodes()
    const { status } = await fetch(`${this.#base}/readyz`)
    return (
      status === 200 && ids.every((id) => nodes.some((node) => node.id === id && node.state === 'active'))
    )
  }

  drain(id: string): Promise<Operation> {
    return this.#call('POST', `/nodes/${id}/drain`, { ratePerSecond: 0 })
  }

  async activate(id: string): Promise<void> {
    await this.#call('POST', `/nodes/${id}/activate`)
  }

  operation(id: string): Promise<Operation> {
    return this.#call('GET', `/operations/${id}`)
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.#base}/api/v1${path}`, {
      method,
      ...(body !== undefined && {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`)
    return JSON.parse(text) as T
  }
}
