import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { AdminClient } from '../support/admin-client.ts'
import { type Child, kill, orExit, startChild } from '../support/processes.ts'
import type { Held } from './memory-hook.ts'
import type { Target } from './wire.ts'

export interface AttackedGateway {
  readonly target: Target
  readonly wsUrl: string
  readonly admin: AdminClient
  /** All that the gateway has said. */
  readonly logFile: string
  readonly secrets: ReadonlySet<string>
  rssKib(): number
  /** After garbage was collected. */
  held(): Promise<Held>
  /** Settles when the gateway has ended. */
  readonly exited: Promise<unknown>
  /** What it has called errors of its own. */
  errors(): string[]
  /** Client connections that are open. */
  clients(): Promise<number>
  /** Throws when the gateway has crashed. */
  close(): Promise<void>
}

export interface StageOptions {
  redis?: string
  tokens?: { node: string; admin: string }
  config?: Record<string, unknown>
}

/** A gateway process, the node behind it, and what is needed to judge it. */
export async function startAttacked({ redis, tokens, config = {} }: StageOptions): Promise<AttackedGateway> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-attacks-'))
  const file = path.join(directory, 'gateway.json')
  const logFile = path.join(directory, 'log')
  closeSync(openSync(logFile, 'w'))
  const base = {
    ...(redis === undefined ? {} : { redis }),
    pools: { legacy: { upstreams: [] } },
    channels: { history: [{ match: 'kept:*', size: 10 }] },
    // What is slow on purpose, or silent, is cut sooner than by default.
    limits: { handshakeMs: 2_000, idlePingMs: 2_000, idlePongMs: 5_000 },
    log: { level: 'debug' },
  }
  writeFileSync(file, JSON.stringify({ ...base, ...config }))
  const ready = Promise.withResolvers<{ public: { port: number }; internal: { port: number } }>()
  const env: Record<string, string> =
    tokens === undefined ? {} : { EVENKEEL_NODE_TOKEN: tokens.node, EVENKEEL_ADMIN_TOKEN: tokens.admin }
  const hook = path.join(import.meta.dirname, 'memory-hook.ts')
  const ports = ['--host', '127.0.0.1', '--port', '0', '--internal-port', '0']
  const log = openSync(logFile, 'a')
  const gateway = startChild({
    name: 'gateway',
    script: 'src/cli/main.ts',
    args: ['gateway', ...ports, '--config', file],
    env: { ...env, NODE_OPTIONS: `--import=${hook}` },
    ipc: true,
    onLine(line) {
      writeFileSync(log, `${line}\n`)
      if (line.includes('"gateway ready"')) ready.resolve(JSON.parse(line))
    },
  })
  const { public: outside, internal } = await orExit(gateway, ready.promise)
  const node = await startNode(internal.port, env)
  const admin = new AdminClient(`http://127.0.0.1:${internal.port}`, tokens?.admin)
  const secrets = new Set<string>(Object.values(env))
  return {
    target: {
      publicPort: outside.port,
      internalPort: internal.port,
      nodeToken: tokens?.node ?? '',
      adminToken: tokens?.admin ?? '',
      redisUrl: redis ?? '',
      secret: (text) => void secrets.add(text),
    },
    wsUrl: `ws://127.0.0.1:${outside.port}/ws`,
    admin,
    logFile,
    secrets,
    rssKib: () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${gateway.pid}/status`, 'latin1'))![1]),
    held: () =>
      orExit(
        gateway,
        new Promise((resolve) => {
          gateway.process.once('message', (held) => resolve(held as Held))
          gateway.process.send('held')
        }),
      ),
    exited: gateway.exited,
    errors: () =>
      readFileSync(logFile, 'utf8')
        .split('\n')
        .filter((line) => /"level":(50|60)|^Error|^\s+at /.test(line)),
    clients: () => connections(internal.port, tokens?.admin),
    async close() {
      const crashed = !gateway.running
      await Promise.all([kill(node), kill(gateway)])
      closeSync(log)
      rmSync(directory, { recursive: true })
      if (crashed) throw new Error(`the gateway has crashed:\n${gateway.log()}`)
    },
  }
}

async function startNode(internalPort: number, env: Record<string, string>): Promise<Child> {
  const node = startChild({
    name: 'node',
    script: 'test/attacks/node.ts',
    args: ['--id=good', `--gateway=ws://127.0.0.1:${internalPort}`],
    env,
    ipc: true,
  })
  await orExit(node, new Promise((resolve) => node.process.once('message', resolve)))
  return node
}

async function connections(internalPort: number, token = ''): Promise<number> {
  const headers = { authorization: `Bearer ${token}` }
  const text = await (await fetch(`http://127.0.0.1:${internalPort}/metrics`, { headers })).text()
  const counts = [...text.matchAll(/^evenkeel_connections\{[^}]*\} (\d+)/gm)].map(([, count]) =>
    Number(count),
  )
  return counts.reduce((total, count) => total + count, 0)
}
