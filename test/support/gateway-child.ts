import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { onTestFinished } from 'vitest'
import { AdminClient } from './admin-client.ts'
import { OperatorEvents } from './operator-events.ts'
import { type Exit, kill, orExit, startChild } from './processes.ts'

export interface GatewayChild {
  readonly wsUrl: string
  readonly publicPort: number
  readonly linkUrl: string
  readonly internalPort: number
  readonly admin: AdminClient
  readonly events: OperatorEvents
  readonly exited: Promise<Exit>
  signal(signal: NodeJS.Signals): void
  /** The value of a metric without labels. */
  metric(name: string): Promise<number>
}

/** The gateway as users run it, with a configuration file, in a process that a test may stop. It ends with the test. */
export async function startGatewayChild(config: Record<string, unknown>): Promise<GatewayChild> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-gateway-'))
  const file = path.join(directory, 'gateway.json')
  writeFileSync(file, JSON.stringify(config))
  const ready = Promise.withResolvers<{ public: { port: number }; internal: { port: number } }>()
  const flags = ['--host', '127.0.0.1', '--port', '0', '--internal-port', '0']
  const child = startChild({
    name: 'gateway',
    script: 'src/cli/main.ts',
    args: ['gateway', ...flags, '--config', file],
    onLine(line) {
      if (line.includes('"gateway ready"')) ready.resolve(JSON.parse(line))
    },
  })
  onTestFinished(async () => {
    await kill(child)
    rmSync(directory, { recursive: true })
  })
  const { public: outside, internal } = await orExit(child, ready.promise)
  const internalUrl = `http://127.0.0.1:${internal.port}`
  const admin = new AdminClient(internalUrl, undefined)
  const events = await OperatorEvents.open(admin)
  onTestFinished(() => events.close())
  return {
    wsUrl: `ws://127.0.0.1:${outside.port}/ws`,
    publicPort: outside.port,
    linkUrl: `ws://127.0.0.1:${internal.port}`,
    internalPort: internal.port,
    admin,
    events,
    exited: child.exited,
    signal: (signal) => void child.process.kill(signal),
    async metric(name) {
      const text = await (await fetch(`${internalUrl}/metrics`)).text()
      const [, value] = new RegExp(`^${name} (\\S+)$`, 'm').exec(text) ?? []
      if (value === undefined) throw new Error(`no metric ${name}`)
      return Number(value)
    },
  }
}
