import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')
const children = new Set<ChildProcess>()

/** For `afterEach`: no process outlives its test. */
export async function killChildren(): Promise<void> {
  for (const child of [...children]) {
    const closed = once(child, 'close')
    child.kill('SIGKILL')
    await closed
  }
}

export interface Result {
  code: number | null
  stdout: string
  stderr: string
}

/** Starts the real CLI from its sources, with none of the caller's EVENKEEL_ variables. */
export function start(
  args: string[],
  env: Record<string, string> = {},
  entry = ['src/cli/main.ts'],
): ChildProcess {
  const clean = Object.entries(process.env).filter(
    ([name]) => !/^(EVENKEEL_|FORCE_COLOR|NO_COLOR|NODE_)/.test(name),
  )
  const child = spawn(process.execPath, ['--conditions=evenkeel-source', ...entry, ...args], {
    cwd: root,
    env: { ...Object.fromEntries(clean), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  child.once('close', () => children.delete(child))
  return child
}

/** What the process still prints, and its exit code. */
export async function finish(child: ChildProcess): Promise<Result> {
  const result: Result = { code: null, stdout: '', stderr: '' }
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    result.stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    result.stderr += text
  })
  ;[result.code] = await once(child, 'close')
  return result
}

export function run(args: string[], env: Record<string, string> = {}): Promise<Result> {
  return finish(start(args, env))
}

/** Reads on until `wanted` was printed. */
export async function readUntil(child: ChildProcess, wanted: string): Promise<string> {
  let text = ''
  child.stdout?.setEncoding('utf8')
  for await (const chunk of child.stdout!.iterator({ destroyOnReturn: false })) {
    text += chunk
    if (text.includes(wanted)) return text
  }
  throw new Error(`the output ended without ${wanted}: ${text}`)
}
