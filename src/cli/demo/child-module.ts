import { type ChildProcess, fork } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** `.ts` when run from the sources, `.js` when built. */
const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const leash = new URL(`./leash${extension}`, import.meta.url).href

const stderrCharactersKept = 4_096

const running = new Map<ChildProcess, NodeJS.Signals>()

// However the demo ends, short of a SIGKILL (then their leash ends them), it leaves no process behind.
process.on('exit', () => {
  for (const [child, signal] of running) child.kill(signal)
})

export interface ChildModule {
  readonly process: ChildProcess
  /** Resolves when the process is gone, with how it ended. */
  readonly ended: Promise<string>
}

export interface ModuleOptions {
  /** Default: that of this process. */
  env?: Readonly<Record<string, string | undefined>>
  /** How it is ended when this process ends. Default SIGKILL. */
  endSignal?: NodeJS.Signals
  /** Gets each line of its stdout. */
  onLine?: (line: string) => void
}

/** Runs a module, named relative to this folder and without extension, as a child that ends with this process. */
export function startModule(
  module: string,
  args: string[],
  { env = process.env, endSignal = 'SIGKILL', onLine }: ModuleOptions = {},
): ChildModule {
  const child = fork(fileURLToPath(new URL(module + extension, import.meta.url)), args, {
    execPath: process.execPath,
    execArgv: [...(extension === '.ts' ? ['--conditions=evenkeel-source'] : []), '--import', leash],
    env,
    stdio: ['ignore', onLine === undefined ? 'ignore' : 'pipe', 'pipe', 'ipc'],
  })
  running.set(child, endSignal)
  if (onLine !== undefined) createInterface({ input: child.stdout! }).on('line', onLine)
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-stderrCharactersKept)
  })
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error) => {
      running.delete(child)
      resolve(error.message)
    })
    child.once('close', (code, signal) => {
      running.delete(child)
      const end = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`
      const reason = code === 0 ? undefined : reasonIn(stderr)
      resolve(reason === undefined ? end : `${end}: ${reason}`)
    })
  })
  return { process: child, ended }
}

/** The line that tells most: the error that ended the process, else its last words. */
function reasonIn(stderr: string): string | undefined {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  return lines.findLast((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1)
}
