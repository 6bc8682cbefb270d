import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Child {
  readonly name: string
  readonly pid: number
  readonly process: ChildProcess
  readonly logFile: string
}

export interface ChildOptions {
  name: string
  program: string
  args: string[]
  /** Opens a message channel; the child is then expected to leave when the channel breaks. */
  ipc?: boolean
  /** Runs only when nothing else wants the CPU (SCHED_IDLE, see sched(7)). */
  idle?: boolean
}

const stopTimeoutMs = 3_000
const running = new Map<number, Child>()
let scratch: string | null = null

/** A directory for configurations and logs; it goes away with the benchmark. */
export function scratchDirectory(): string {
  scratch ??= mkdtempSync(join(tmpdir(), 'evenkeel-bench-'))
  return scratch
}

/** A proxy holds two descriptors per client, so the limit is raised as far as the machine allows. */
export const raiseFileLimit = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"'

export function startChild({ name, program, args, ipc = false, idle = false }: ChildOptions): Child {
  const logFile = join(scratchDirectory(), `${name}-${running.size}-${Date.now()}.log`)
  const log = openSync(logFile, 'a')
  // `exec` keeps the pid.
  const prefix = idle ? 'chrt --idle 0 ' : ''
  const child = spawn('sh', ['-c', `${raiseFileLimit}; exec ${prefix}"$0" "$@"`, program, ...args], {
    stdio: ['ignore', log, log, ...(ipc ? ['ipc' as const] : [])],
    env: cleanEnvironment(),
  })
  closeSync(log)
  if (child.pid === undefined) throw new Error(`${name} could not be started`)
  const started: Child = { name, pid: child.pid, process: child, logFile }
  running.set(child.pid, started)
  child.once('exit', () => running.delete(started.pid))
  // A command sent to a child that just died must not end the benchmark; its exit is reported elsewhere.
  child.on('error', () => {})
  return started
}

export function startNodeScript(
  name: string,
  script: URL,
  args: string[] = [],
  { ipc = true, idle = false }: { ipc?: boolean; idle?: boolean } = {},
): Child {
  const flags = ['--conditions=evenkeel-source', script.pathname]
  return startChild({ name, program: process.execPath, args: [...flags, ...args], ipc, idle })
}

/** Settings of whoever runs the benchmark must not change what is measured. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([key]) => !key.startsWith('EVENKEEL_') && key !== 'NODE_OPTIONS',
  )
  return Object.fromEntries(kept)
}

/** The child's first message. */
export function firstMessage<T>(child: Child, timeoutMs = 15_000): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(failure(child, `said nothing for ${timeoutMs} ms`)), timeoutMs)
    child.process.once('message', (message) => {
      clearTimeout(timer)
      resolve(message as T)
    })
    child.process.once('exit', (code) => {
      clearTimeout(timer)
      reject(failure(child, `ended with code ${code}`))
    })
  })
}

export function isRunning(child: Child): boolean {
  return child.process.exitCode === null && child.process.signalCode === null
}

export function failure(child: Child, what: string): Error {
  const log = readFileSync(child.logFile, 'utf8').trim().split('\n').slice(-12).join('\n    ')
  return new Error(`${child.name} ${what}${log === '' ? '' : `\n    ${log}`}`)
}

/** Polls until `ready` holds; fails at once when the child ends. */
export async function waitUntilReady(
  child: Child,
  ready: () => Promise<boolean>,
  timeoutMs = 15_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (performance.now() < deadline) {
    if (!isRunning(child)) throw failure(child, `ended with code ${child.process.exitCode}`)
    if (await ready().catch(() => false)) return
    await sleep(50)
  }
  throw failure(child, `was not ready within ${timeoutMs} ms`)
}

/** The processes that `pid` started, deepest last. */
export function descendantsOf(pid: number): number[] {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1')
        .trim()
        .split(' ')
        .filter(Boolean)
        .map(Number),
    )
    return children.flatMap((child) => [child, ...descendantsOf(child)])
  } catch {
    return []
  }
}

export async function stopChild(child: Child): Promise<void> {
  if (!isRunning(child)) return
  const family = [child.pid, ...descendantsOf(child.pid)]
  const ended = new Promise((resolve) => child.process.once('exit', resolve))
  child.process.kill('SIGTERM')
  const inTime = await Promise.race([ended.then(() => true), sleep(stopTimeoutMs, false, { ref: false })])
  if (!inTime) {
    kill(family)
    await ended
  }
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running.values()].map(stopChild))
}

function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It is gone already.
    }
  }
}

process.on('exit', () => {
  for (const pid of running.keys()) kill([pid, ...descendantsOf(pid)])
  if (scratch !== null) rmSync(scratch, { recursive: true, force: true })
})
