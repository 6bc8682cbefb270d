import type { SessionView } from '../../src/gateway/operator.ts'
import { AdminClient } from './admin-client.ts'
import { OperatorEvents } from './operator-events.ts'
import { type Child, type Exit, kill, orExit, startChild } from './processes.ts'

/** A gateway process: the CLI, on free ports. */
export interface ClusterGateway {
  readonly id: string
  readonly publicPort: number
  readonly internalPort: number
  readonly admin: AdminClient
  readonly events: OperatorEvents
  readonly running: boolean
  readonly exited: Promise<Exit>
  /** Those that this gateway has itself. */
  sessions(): Promise<SessionView[]>
  /** What `/readyz` says. */
  readiness(): Promise<Readiness>
  signal(signal: NodeJS.Signals): void
  kill(signal?: NodeJS.Signals): Promise<Exit>
  log(): string
}

export interface Readiness {
  status: number
  ready: boolean
  reasons: string[]
}

const startMs = 20_000

/** A child that has been started, and the gateway once it is ready. */
export function launchGateway(
  id: string,
  configFile: string,
  redis?: string,
): { child: Child; ready: Promise<ClusterGateway> } {
  const ports = Promise.withResolvers<{ public: { port: number }; internal: { port: number } }>()
  const flags = ['--host', '127.0.0.1', '--port', '0', '--internal-port', '0', '--config', configFile]
  const child = startChild({
    name: `gateway ${id}`,
    script: 'src/cli/main.ts',
    args: ['gateway', ...flags, ...(redis === undefined ? [] : ['--redis', redis])],
    env: { EVENKEEL_GATEWAY_ID: id },
    ipc: true,
    onLine(line) {
      if (line.includes('"gateway ready"')) ports.resolve(JSON.parse(line))
    },
  })
  // Its message channel keeps a child alive that has given up.
  const giveUp = setTimeout(
    () => ports.reject(new Error(`gateway ${id} is not ready after ${startMs} ms:\n${child.log()}`)),
    startMs,
  )
  const ready = orExit(child, ports.promise)
    .finally(() => clearTimeout(giveUp))
    .then(({ public: { port }, internal }) => clusterGateway(id, child, port, internal.port))
  return { child, ready }
}

async function clusterGateway(
  id: string,
  child: Child,
  publicPort: number,
  internalPort: number,
): Promise<ClusterGateway> {
  const admin = new AdminClient(`http://127.0.0.1:${internalPort}`, undefined)
  return {
    id,
    publicPort,
    internalPort,
    admin,
    events: await OperatorEvents.open(admin),
    get running() {
      return child.running
    },
    exited: child.exited,
    sessions: () => sessionsAt(internalPort),
    readiness: () => readinessAt(publicPort),
    signal: (signal) => void child.process.kill(signal),
    kill: (signal) => kill(child, signal),
    log: child.log,
  }
}

/** As another gateway asks for them: the answer is about this one alone. */
async function sessionsAt(internalPort: number): Promise<SessionView[]> {
  const url = `http://127.0.0.1:${internalPort}/api/v1/sessions?limit=1000`
  const response = await fetch(url, { headers: { 'x-evenkeel-scope': 'local' } })
  return ((await response.json()) as { sessions: SessionView[] }).sessions
}

async function readinessAt(publicPort: number): Promise<Readiness> {
  const response = await fetch(`http://127.0.0.1:${publicPort}/readyz`)
  return { status: response.status, ...((await response.json()) as Omit<Readiness, 'status'>) }
}

/** Publishes as an operator does. False when nobody knows whether it went out. */
export async function publishAt(
  { internalPort }: Pick<ClusterGateway, 'internalPort'>,
  channel: string,
  data: string,
  timeoutMs = 3_000,
): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${internalPort}/api/v1/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ channel, data }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}
