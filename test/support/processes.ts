import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface Child {
  readonly name: string
  readonly pid: number
  readonly process: ChildProcess
  readonly exited: Promise<Exit>
  readonly running: boolean
  /** The last lines of its output. */
  log(): string
}

export interface ChildOptions {
  name: string
  /** Relative to the root of the project. */
  script: string
  args: readonly string[]
  env?: Record<string, string>
  /** Opens a message channel. The child ends when the channel does, even if this process is killed. */
  ipc?: boolean
  onLine?(line: string): void
}

const logLines = 40
const running = new Set<ChildProcess>()

// A test worker that dies must not leave processes behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Runs a script of this project with the Node.js of this process. */
export function startChild({ name, script, args, env = {}, ipc = false, onLine }: ChildOptions): Child {
  const flags = ['--conditions=evenkeel-source', ...(ipc ? ['--import=./test/support/lifeline.ts'] : [])]
  const child = spawn(process.execPath, [...flags, script, ...args], {
    cwd: root,
    env: { ...cleanEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? ['ipc' as const] : [])],
  })
  if (child.pid === undefined) throw new Error(`${name} could not be started`)
  running.add(child)
  const tail: string[] = []
  const keep = (line: string) => {
    tail.push(line)
    if (tail.length > logLines) tail.shift()
  }
  readLines(child.stderr!, keep)
  readLines(child.stdout!, (line) => {
    keep(line)
    onLine?.(line)
  })
  // A command to a child that has just been killed is no failure of the test.
  child.on('error', () => {})
  const exited = once(child, 'exit').then(([code, signal]) => {
    running.delete(child)
    return { code, signal } as Exit
  })
  return {
    name,
    pid: child.pid,
    process: child,
    exited,
    get running() {
      return child.exitCode === null && child.signalCode === null
    },
    log: () => tail.join('\n'),
  }
}

/** Rejects with the child's output when it ends before `wanted` settles. */
export function orExit<T>(child: Child, wanted: Promise<T>): Promise<T> {
  const ended = child.exited.then(({ code, signal }): never => {
    throw new Error(`${child.name} ended early (${signal ?? `code ${code}`}):\n${child.log()}`)
  })
  // Only the race is looked at; afterwards the child may end as it likes.
  ended.catch(() => {})
  return Promise.race([wanted, ended])
}

export async function kill(child: Child, signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> {
  if (child.running) child.process.kill(signal)
  return child.exited
}

/** Settings of whoever runs the tests must not change what is tested. */
function cleanEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(EVENKEEL_|NODE_|VITEST)/.test(name)),
  )
}

function readLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) onLine(line)
  })
}
