import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createNode, type EvenkeelNode } from 'evenkeel/sdk'
import { type Result, readUntil, root, start } from './cli.ts'
import { RedisServer } from './redis.ts'
import { until } from './until.ts'

export type { Result } from './cli.ts'

const quiet = { info() {}, warn() {}, error() {} }
const clientsPerPool = 4
/** More than any offset that a page resumes from. */
const tokens = Array.from({ length: 24 }, (_, index) => `token ${index + 1} `)

export class RunningCommand {
  readonly pid: number
  readonly exited: Promise<number | null>
  private readonly child: ChildProcess
  private text = ''
  private readonly looks = new Set<() => void>()

  constructor(child: ChildProcess) {
    this.child = child
    this.pid = child.pid!
    const take = (text: string) => {
      this.text += text
      for (const look of [...this.looks]) look()
    }
    child.stdout!.setEncoding('utf8').on('data', take)
    child.stderr!.setEncoding('utf8').on('data', take)
    this.exited = once(child, 'close').then(([code]) => code as number | null)
  }

  /** Resolves when it has printed this. */
  async prints(wanted: string): Promise<void> {
    const found = until(() => this.text.includes(wanted), this.looks, { what: wanted, timeoutMs: 20_000 })
    const ended = this.exited.then((code): never => {
      throw new Error(`it ended with ${code} and without ${wanted}: ${this.text}`)
    })
    ended.catch(() => {})
    await Promise.race([found, ended])
  }

  type(text: string): void {
    this.child.stdin!.write(text)
  }

  /** SIGTERM. Resolves with the exit code; null: ended by the signal. */
  stop(): Promise<number | null> {
    this.child.kill('SIGTERM')
    return this.exited
  }
}

/**
 * What the pages suppose: a Redis, two gateways, nodes `chat-1` and `chat-2` with clients, a pool `chat` with nodes of
 * versions 1, 2 and 2.0, a server known by URL, and a run that has ended.
 */
export class DocsScene {
  readonly directory: string
  readonly redis: RedisServer
  readonly upstreamPort: number
  readonly ports: { clients: number; operators: number }
  runId = ''
  private readonly env: Record<string, string>
  private readonly ends: (() => unknown)[]
  private readonly clients: WebSocket[] = []

  private constructor(directory: string, redis: RedisServer, upstreamPort: number, ends: (() => unknown)[]) {
    this.directory = directory
    this.redis = redis
    this.upstreamPort = upstreamPort
    this.ends = ends
    this.ports = { clients: 0, operators: 0 }
    this.env = {
      PATH: `${directory}:${path.dirname(process.execPath)}:${process.env.PATH}`,
      // Dozens of processes load the same modules.
      NODE_COMPILE_CACHE: path.join(directory, 'compiled'),
    }
  }

  static async start(): Promise<DocsScene> {
    const directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-docs-'))
    const redis = await RedisServer.start()
    const upstream = createServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    const ends = [
      () => rm(directory, { recursive: true, force: true }),
      () => redis.stop(),
      () => upstream.close(),
    ]
    const { port } = upstream.address() as AddressInfo
    const scene = new DocsScene(directory, redis, port, ends)
    try {
      await scene.furnish()
      return scene
    } catch (error) {
      await scene.stop()
      throw error
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.ports.operators}`
  }

  /** Runs one command of a page in a shell, with this scene's addresses in place of the page's. */
  async run(command: string, env: Record<string, string> = {}): Promise<Result> {
    const result: Result = { code: null, stdout: '', stderr: '' }
    const child = this.spawn(command, env)
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      result.stdout += text
    })
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      result.stderr += text
    })
    ;[result.code] = await once(child, 'close')
    return result
  }

  /** Starts one that goes on by itself. */
  begin(command: string, env: Record<string, string> = {}): RunningCommand {
    // The shell makes way, so that signals reach the program.
    const child = this.spawn(`exec ${command}`, env)
    this.ends.push(() => child.kill('SIGKILL'))
    return new RunningCommand(child)
  }

  async call<T>(method: string, place: string, body?: unknown): Promise<T> {
    const answer = await fetch(`${this.url}/api/v1${place}`, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    if (!answer.ok) throw new Error(`${method} ${place}: ${answer.status} ${await answer.text()}`)
    return (await answer.json()) as T
  }

  /** Clients that were disconnected. */
  get lost(): number {
    return this.clients.filter(({ readyState }) => readyState !== WebSocket.OPEN).length
  }

  async stop(): Promise<void> {
    for (const client of this.clients) client.close()
    for (const end of this.ends.reverse()) await end()
  }

  private async furnish(): Promise<void> {
    // What the package installs under this name.
    await writeFile(
      path.join(this.directory, 'evenkeel'),
      `#!/bin/sh\nexec node --conditions=evenkeel-source ${root}/src/cli/main.ts "$@"\n`,
    )
    await chmod(path.join(this.directory, 'evenkeel'), 0o755)
    const config = {
      gatewayId: 'gw-1',
      redis: this.redis.url,
      public: { host: '127.0.0.1', port: 0 },
      internal: { port: 0 },
      limits: { gatewayDrainMs: 200, answerDrainMs: 200 },
      pools: { legacy: { allowedAddresses: ['127.0.0.0/8'] } },
      routes: [{ name: 'chat', path: '/chat/ws', protocol: 'websocket', pool: 'chat' }],
    }
    await writeFile(path.join(this.directory, 'gateway.yaml'), JSON.stringify(config))
    const second = path.join(this.directory, 'gateway-2.yaml')
    await writeFile(second, JSON.stringify({ ...config, gatewayId: 'gw-2' }))
    const [ready] = await Promise.all([
      this.startGateway('gateway.yaml'),
      this.startGateway('gateway-2.yaml'),
    ])
    Object.assign(this.ports, { clients: ready.public.port, operators: ready.internal.port })
    await Promise.all([
      this.startNode('chat-1'),
      this.startNode('chat-2'),
      this.startNode('chat-7', { pool: 'chat', version: '1' }),
      this.startNode('chat-8', { pool: 'chat', version: '2', weight: 0.0001 }),
      this.startNode('chat-9', { pool: 'chat', version: '2.0', weight: 0.0001 }),
      this.startNode('green-1', { pool: 'green' }),
    ])
    await Promise.all(
      ['/ws', '/chat/ws'].flatMap((place) =>
        Array.from({ length: clientsPerPool }, () => this.connect(place)),
      ),
    )
    const run = await fetch(`http://127.0.0.1:${this.ports.clients}/runs`, {
      method: 'POST',
      body: JSON.stringify({ name: 'chat', body: {} }),
      headers: { 'content-type': 'application/json' },
    })
    this.runId = run.headers.get('x-run-id')!
    await run.text()
  }

  private async startGateway(file: string) {
    const child = start(['gateway', '--config', path.join(this.directory, file)], this.env)
    this.ends.push(() => child.kill('SIGKILL'))
    const output = await readUntil(child, 'gateway ready')
    child.stdout!.resume()
    const line = output.split('\n').find((each) => each.includes('gateway ready'))!
    return JSON.parse(line) as { public: { port: number }; internal: { port: number } }
  }

  private async startNode(id: string, options: object = {}): Promise<EvenkeelNode> {
    const node = createNode({ id, redis: this.redis.url, drainOnSigterm: false, logger: quiet, ...options })
    node.serve({
      open(session) {
        session.join('room:7')
        session.join('news')
      },
      message(session, data) {
        session.send(data)
      },
    })
    node.run('chat', async function* () {
      yield* tokens
    })
    await node.start()
    this.ends.push(() => node.stop())
    return node
  }

  private async connect(place: string): Promise<void> {
    const client = new WebSocket(`ws://127.0.0.1:${this.ports.clients}${place}`)
    await once(client, 'open')
    this.clients.push(client)
  }

  private spawn(command: string, env: Record<string, string>): ChildProcess {
    const child = spawn('sh', ['-c', this.here(command)], {
      cwd: root,
      env: {
        ...process.env,
        ...this.env,
        EVENKEEL_ADMIN_URL: this.url,
        GATEWAY: `ws://127.0.0.1:${this.ports.operators}`,
        ...env,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    return child
  }

  private here(command: string): string {
    return command
      .replaceAll('redis://127.0.0.1:6379', this.redis.url)
      .replace(/\bredis-cli\b( -c)?/g, `redis-cli -p ${this.redis.port}`)
      .replace(/(127\.0\.0\.1|localhost):8080\b/g, `127.0.0.1:${this.ports.clients}`)
      .replace(/(127\.0\.0\.1|localhost):8081\b/g, `127.0.0.1:${this.ports.operators}`)
      .replace(/--port 8080\b/, '--port 0')
      .replace(/--internal-port (8081|9081)\b/, '--internal-port 0')
      .replaceAll('http://10.0.0.9:3000', `http://127.0.0.1:${this.upstreamPort}`)
      .replaceAll('10.0.0.9:3000', `127.0.0.1:${this.upstreamPort}`)
      .replaceAll('gateway.yaml', path.join(this.directory, 'gateway.yaml'))
      .replace(/docs\/images\//g, `${this.directory}/`)
      .replaceAll('runs/ID', `runs/${this.runId}`)
  }
}

/** What `npm run NAME -- ARGS` runs. Throws for a script that there is not. */
export async function expandNpm(command: string): Promise<string> {
  const match = /^npm (?:run )?([\w:.-]+)(?: -- (.*))?$/.exec(command)
  if (match === null) return command
  const { scripts } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
  const script = scripts[match[1]!]
  if (script === undefined) throw new Error(`package.json has no script "${match[1]}"`)
  return `${script} ${match[2] ?? ''}`.trim()
}
