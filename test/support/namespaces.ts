import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { root } from './processes.ts'

/** Runs a command and returns what it said. Throws when it fails. */
export function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', cwd: root })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`)
  return stdout
}

/** Why tests with network namespaces and these commands in one of them cannot run here; null: they can. */
export function missingForNamespaces(commands: readonly string[]): string | null {
  if (process.getuid?.() !== 0) return 'needs root'
  const name = `evenkeel-try-${process.pid}`
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return 'needs network namespaces (ip netns)'
  try {
    const failing = commands.find(
      (command) => spawnSync('ip', ['netns', 'exec', name, 'sh', '-c', command]).status !== 0,
    )
    return failing === undefined ? null : `the kernel cannot: ${failing}`
  } finally {
    spawnSync('ip', ['netns', 'del', name])
  }
}

/** A network of its own, gone with the test. */
export class Namespace {
  readonly name: string
  private readonly children: ChildProcess[] = []

  constructor(label: string) {
    this.name = `evenkeel-${process.pid}-${label}`
    run('ip', 'netns', 'add', this.name)
    onTestFinished(async () => {
      for (const child of this.children) {
        if (child.exitCode !== null || child.signalCode !== null) continue
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
      run('ip', 'netns', 'del', this.name)
    })
    this.ip('link', 'set', 'lo', 'up')
  }

  ip(...args: string[]): void {
    run('ip', '-n', this.name, ...args)
  }

  exec(command: string, ...args: string[]): string {
    return run('ip', 'netns', 'exec', this.name, command, ...args)
  }

  /** Resolves with the first line of its output that `isReady`. */
  async start(
    command: string,
    args: readonly string[],
    isReady: (line: string) => boolean,
    env: Record<string, string> = {},
  ): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.name, command, ...args], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.children.push(child)
    let output = ''
    await new Promise<void>((resolve, reject) => {
      const heard = (data: Buffer) => {
        output += data
        if (output.split('\n').some(isReady)) resolve()
      }
      child.stdout.on('data', heard)
      child.stderr.on('data', heard)
      child.once('exit', () => reject(new Error(`${command} has ended:\n${output}`)))
    })
  }

  /** A gateway; `file` is its configuration. */
  startGateway(file: string): Promise<void> {
    const args = ['--conditions=evenkeel-source', 'src/cli/main.ts', 'gateway', '--config', file]
    return this.start(process.execPath, args, (line) => line.includes('"gateway ready"'))
  }

  /** A server that sends each client what the expression, in which `socket` is its connection, gives, and ends. */
  startTelling(port: number, expression: string): Promise<void> {
    const code = `require('node:net').createServer((socket) => { socket.on('error', () => {}); ${expression} }).listen(${port}, () => console.log('listening'))`
    return this.start(process.execPath, ['-e', code], (line) => line === 'listening')
  }

  /** What a client from here is told, once for each of so many connections. */
  ask(host: string, port: number, times = 1): string[] {
    const code = `
      const ask = () => new Promise((resolve) => {
        let text = ''
        const socket = require('node:net').connect(${port}, '${host}', () => socket.write('hello'))
        socket.on('data', (data) => { text += data })
        socket.on('error', (error) => { text += error.code })
        socket.on('close', () => resolve(text))
        setTimeout(() => socket.destroy(), 5000).unref()
      })
      ;(async () => { for (let i = 0; i < ${times}; i++) console.log(JSON.stringify(await ask())) })()`
    return this.exec(process.execPath, '-e', code)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as string)
  }
}

/** Connects two namespaces; each end gets its address, with the length of its prefix. */
export function wire(a: Namespace, aAddress: string, b: Namespace, bAddress: string): void {
  const [aName, bName] = [`v${b.name.slice(-8)}`, `v${a.name.slice(-8)}`]
  run('ip', 'link', 'add', aName, 'netns', a.name, 'type', 'veth', 'peer', 'name', bName, 'netns', b.name)
  for (const [end, name, address] of [
    [a, aName, aAddress],
    [b, bName, bAddress],
  ] as const) {
    if (address !== '') end.ip('address', 'add', address, 'dev', name)
    end.ip('link', 'set', name, 'up')
  }
}
