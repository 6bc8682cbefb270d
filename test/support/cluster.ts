import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Delivery } from 'evenkeel/sdk'
import { AdminClient } from './admin-client.ts'
import { type GatewayUnderTest, gatewayInProcess, gatewayProcess } from './gateway-under-test.ts'
import { type Handling, parseHandlings } from './ledger-message.ts'
import { OperatorEvents } from './operator-events.ts'
import { type Child, type Exit, kill, orExit, startChild } from './processes.ts'

export interface ClusterOptions {
  /** What a configuration file would say. */
  config?: Record<string, unknown>
  tokens?: { node?: string; admin?: string }
  /** Default: the real CLI in a process of its own. */
  inProcess?: boolean
}

export interface NodeSettings {
  id?: string
  weight?: number
  version?: string
  maxSessions?: number
  delivery?: Delivery
  /** Talks outside of message handlers too; see `ledger-node.ts`. */
  chatty?: boolean
  /** A script that takes the arguments of `ledger-node.ts`, which is the default, and says when it is ready. */
  app?: string
}

/** A node process. */
export interface ClusterNode {
  readonly id: string
  readonly pid: number
  readonly exited: Promise<Exit>
  readonly running: boolean
  signal(signal: NodeJS.Signals): void
  /** Over its message channel. */
  send(message: object): void
  kill(signal?: NodeJS.Signals): Promise<Exit>
  log(): string
}

/** A gateway and its nodes, all on free ports of 127.0.0.1, and what an operator needs to see and steer them. */
export interface Cluster extends AsyncDisposable {
  readonly clientUrl: string
  /** Of the admin API and the dashboard. */
  readonly internalUrl: string
  readonly linkUrl: string
  readonly admin: AdminClient
  readonly events: OperatorEvents
  readonly nodes: readonly ClusterNode[]
  addNode(settings?: NodeSettings): Promise<ClusterNode>
  /** What all nodes so far, living or dead, have handled. */
  handlings(): Handling[]
  /** Ends all processes. Throws when the gateway has crashed. */
  close(): Promise<void>
}

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-cluster-'))
  const start = options.inProcess === true ? gatewayInProcess : gatewayProcess
  let gateway: GatewayUnderTest
  try {
    gateway = await start(directory, options.config ?? {}, options.tokens ?? {})
  } catch (error) {
    rmSync(directory, { recursive: true })
    throw error
  }
  const admin = new AdminClient(`http://127.0.0.1:${gateway.internalPort}`, options.tokens?.admin)
  const events = await OperatorEvents.open(admin)
  const nodes: ClusterNode[] = []
  const linkUrl = `ws://127.0.0.1:${gateway.internalPort}`

  const close = async () => {
    events.close()
    try {
      await gateway.close()
    } finally {
      await Promise.all(nodes.map((node) => node.kill()))
      rmSync(directory, { recursive: true })
    }
  }
  return {
    clientUrl: `ws://127.0.0.1:${gateway.publicPort}/ws`,
    internalUrl: `http://127.0.0.1:${gateway.internalPort}`,
    linkUrl,
    admin,
    events,
    nodes,
    async addNode(settings = {}) {
      const id = settings.id ?? `n${nodes.length + 1}`
      const gateways = { gateway: linkUrl }
      const { node, ready } = startNode(id, settings, gateways, directory, options.tokens?.node)
      nodes.push(node)
      await ready
      return node
    },
    handlings: () => readLedgers(directory, nodes),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** `gateways`: one, or the Redis that names them all. Its ledger is in the directory. */
export function startNode(
  id: string,
  { weight, version, maxSessions, delivery, chatty, app = 'test/support/ledger-node.ts' }: NodeSettings,
  gateways: { gateway: string } | { redis: string },
  directory: string,
  token?: string,
): { node: ClusterNode; ready: Promise<void> } {
  const ledger = ledgerFile(directory, id)
  const settings = { id, ...gateways, ledger, weight, version, 'max-sessions': maxSessions, delivery, chatty }
  const child = startChild({
    name: `node ${id}`,
    script: app,
    args: Object.entries(settings).flatMap(([name, value]) =>
      value === undefined ? [] : [`--${name}=${value}`],
    ),
    env: token === undefined ? {} : { EVENKEEL_NODE_TOKEN: token },
    ipc: true,
  })
  const ready = new Promise<void>((resolve) => child.process.once('message', () => resolve()))
  return { node: clusterNode(id, child), ready: orExit(child, ready) }
}

function clusterNode(id: string, child: Child): ClusterNode {
  return {
    id,
    pid: child.pid,
    exited: child.exited,
    get running() {
      return child.running
    },
    signal(signal) {
      child.process.kill(signal)
    },
    send: (message) => void child.process.send(message),
    kill: (signal) => kill(child, signal),
    log: child.log,
  }
}

export function ledgerFile(directory: string, id: string): string {
  return path.join(directory, `${id}.ledger`)
}

/** What these nodes, living or dead, have handled. */
export function readLedgers(directory: string, nodes: readonly ClusterNode[]): Handling[] {
  return [...new Set(nodes.map(({ id }) => id))].flatMap((id) => readLedger(directory, id))
}

function readLedger(directory: string, id: string): Handling[] {
  try {
    return parseHandlings(id, readFileSync(ledgerFile(directory, id), 'utf8'))
  } catch (error) {
    // A node that has handled nothing has no ledger.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
