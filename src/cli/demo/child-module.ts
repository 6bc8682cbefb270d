import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** `.ts` when run from the sources, `.js` when built. */
const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const leash = new URL(`./leash${extension}`, import.meta.url).href

const stderrCharactersKept = 4_096

const running = new Set<ChildProcess>()

// However the demo ends, short of a SIGKILL (then their leash ends them), it leaves no process behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface ChildModule {
  readonly process: ChildProcess
  /** Resolves when the process is gone, with how it ended. */
  readonly ended: Promise<string>
}

/** Runs a module, named relative to this folder and without extension, as a child that ends with this process. */
export function startModule(
  module: string,
  args: string[],
  env: Record<string, string | undefined> = process.env,
): ChildModule {
  const child = fork(fileURLToPath(new URL(module + extension, import.meta.url)), args, {
    execPath: process.execPath,
    execArgv: [...(extension === '.ts' ? ['--conditions=evenkeel-source'] : []), '--import', leash],
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  running.add(child)
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
