import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { AdminClient } from './admin-client.ts'
import { isRunning } from './process-tree.ts'
import { type Exit, kill, orExit, startChild } from './processes.ts'
import { Recorder } from './recorder.ts'

export interface Worker {
  readonly gateway: string
  readonly pid: number
  readonly internalPort: number
  readonly admin: AdminClient
}

/** A line of the log. */
export interface LogLine {
  readonly pid: number
  readonly msg: string
  readonly gateway?: string
  readonly [key: string]: unknown
}

export interface WorkersUnderTest {
  readonly pid: number
  readonly publicPort: number
  readonly wsUrl: string
  readonly workers: readonly Worker[]
  readonly lines: Recorder<LogLine>
  readonly exited: Promise<Exit>
  signal(signal: NodeJS.Signals): void
  /** Replaces the configuration file. */
  write(config: Record<string, unknown>): void
  /** The next worker that is ready and was not among those that are known. */
  replacement(): Promise<Worker>
  /** Resolves when neither the parent nor a worker that was ever ready runs. */
  gone(): Promise<void>
}

type Ports = { public: { port: number }; internal: { port: number } }

/** `evenkeel gateway --workers` as users run it, on free ports unless one is given; it ends with the test. */
export async function startWorkers(
  count: number,
  config: Record<string, unknown>,
  port = 0,
): Promise<WorkersUnderTest> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-workers-'))
  const file = path.join(directory, 'gateway.json')
  const write = (wanted: Record<string, unknown>) => writeFileSync(file, JSON.stringify(wanted))
  write(config)
  const lines = new Recorder<LogLine>()
  const flags = ['--host', '127.0.0.1', '--port', String(port), '--internal-port', '0', '--config', file]
  const child = startChild({
    name: 'gateway with workers',
    script: 'src/cli/main.ts',
    args: ['gateway', '--workers', String(count), ...flags],
    onLine: (line) => lines.add(JSON.parse(line)),
  })
  const ready = () => lines.items.filter(({ msg }) => msg === 'worker ready')
  onTestFinished(async () => {
    await kill(child)
    for (const { pid } of ready()) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
    rmSync(directory, { recursive: true })
  })
  // Workers write lines of their own: the last of them may come after the parent's.
  await orExit(
    child,
    lines.until((all) => ready().length >= count && all.some(({ msg }) => msg === 'gateway ready')),
  )
  const first = lines.items.find(({ msg }) => msg === 'gateway ready') as LogLine & Ports
  let known = ready().length
  return {
    pid: child.pid,
    publicPort: first.public.port,
    wsUrl: `ws://127.0.0.1:${first.public.port}/ws`,
    workers: ready()
      .map(toWorker)
      .toSorted((a, b) => (a.gateway < b.gateway ? -1 : 1)),
    lines,
    exited: child.exited,
    write,
    signal: (signal) => void child.process.kill(signal),
    async replacement() {
      await lines.until(() => ready().length > known)
      return toWorker(ready()[known++]!)
    },
    async gone() {
      const pids = [child.pid, ...ready().map(({ pid }) => pid)]
      await expect.poll(() => pids.filter(isRunning), { timeout: 15_000 }).toEqual([])
    },
  }
}

function toWorker(line: LogLine): Worker {
  const { gateway, pid, internal } = line as LogLine & Ports & { gateway: string }
  const admin = new AdminClient(`http://127.0.0.1:${internal.port}`, undefined)
  return { gateway, pid, internalPort: internal.port, admin }
}
