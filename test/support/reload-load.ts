import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectClient } from 'evenkeel/client'
import { io } from 'socket.io-client'
import { expect, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { AdminClient } from './admin-client.ts'
import { startTestNode } from './in-process.ts'
import { kill, orExit, startChild } from './processes.ts'
import { Recorder } from './recorder.ts'
import { startSocketIoNode } from './socket-io.ts'
import { postTo, SseStream } from './sse-stream.ts'
import { startWsUpstream } from './upstreams.ts'

export interface ReloadLoad {
  /** Of each kind: WebSocket at a route of its own, `evenkeel.v1`, SSE, Socket.IO, WebSocket to an upstream. */
  readonly perKind: number
  readonly reloads: number
  readonly everyMs: number
  /** Between two bursts of one client. */
  readonly paceMs: number
}

export interface ReloadFigures {
  readonly sessions: number
  readonly messages: number
  readonly seconds: number
  readonly applied: number
  readonly refused: number
  readonly moved: number
  /** Of the reloads, as the gateway's log says. */
  readonly millisecondsMax: number
  /** What went wrong; each client says its first. */
  readonly faults: readonly string[]
  /** Sessions that were here in the beginning and are not in the end. */
  readonly gone: number
}

/** One client that numbers what it sends and expects it back in order. */
abstract class Client {
  readonly kind: string
  fault: string | null = null
  sent = 0
  got = 0
  private wake: (() => void) | null = null

  constructor(kind: string) {
    this.kind = kind
  }

  abstract send(text: string): unknown
  abstract stop(): void

  protected received(text: string): void {
    if (Number(text) !== this.got + 1) this.failed(`got ${text} behind ${this.got}`)
    this.got++
    if (this.got >= this.sent) this.wake?.()
  }

  protected failed(why: string): void {
    this.fault ??= `${this.kind}: ${why}`
    this.wake?.()
  }

  async burst(size: number): Promise<void> {
    const back = new Promise<void>((resolve) => {
      this.wake = resolve
    })
    for (let i = 0; i < size; i++) await this.send(String(++this.sent))
    if (this.got < this.sent && this.fault === null) await back
  }
}

class WsClient extends Client {
  private readonly ws: WebSocket

  constructor(kind: string, url: string) {
    super(kind)
    this.ws = new WebSocket(url)
    this.ws.on('message', (data) => this.received(String(data)))
    this.ws.on('error', (error) => this.failed(error.message))
    this.ws.on('close', (code) => this.failed(`closed with ${code}`))
  }

  async opened(): Promise<this> {
    await new Promise((resolve) => this.ws.once('open', resolve))
    return this
  }

  send(text: string): void {
    this.ws.send(text)
  }

  stop(): void {
    this.ws.removeAllListeners('close')
    this.ws.terminate()
  }
}

class V1Client extends Client {
  private readonly client: ReturnType<typeof connectClient>
  private sessions = 0

  constructor(url: string) {
    super('evenkeel.v1')
    this.client = connectClient(url)
    this.client.on('message', (data) => this.received(String(data)))
    this.client.on('session', () => {
      if (++this.sessions > 1) this.failed('was connected again')
    })
  }

  send(text: string): void {
    this.client.send(text).catch((error: Error) => this.failed(error.message))
  }

  stop(): void {
    this.client.close()
  }
}

class SseClient extends Client {
  private readonly httpUrl: string
  private readonly stream: SseStream
  private readonly session: Awaited<ReturnType<SseStream['session']>>
  private stopped = false

  private constructor(httpUrl: string, stream: SseStream, session: SseClient['session']) {
    super('sse')
    this.httpUrl = httpUrl
    this.stream = stream
    this.session = session
    void this.read()
  }

  static async open(httpUrl: string): Promise<SseClient> {
    const stream = await SseStream.open(httpUrl)
    return new SseClient(httpUrl, stream, await stream.session())
  }

  async send(text: string): Promise<void> {
    const { status } = await postTo(this.httpUrl, this.session, text)
    if (status !== 202) this.failed(`answered with ${status}`)
  }

  stop(): void {
    this.stopped = true
    this.stream.cut()
  }

  private async read(): Promise<void> {
    try {
      for (;;) this.received((await this.stream.next()).data)
    } catch (error) {
      if (!this.stopped) this.failed((error as Error).message)
    }
  }
}

class IoClient extends Client {
  private readonly socket: ReturnType<typeof io>

  constructor(url: string, transport: string) {
    super(`socket.io over ${transport}`)
    this.socket = io(url, { path: '/live/io/', transports: [transport], forceNew: true })
    this.socket.on('echo', (text: string) => this.received(text))
    this.socket.on('disconnect', (reason) => this.failed(reason))
  }

  send(text: string): void {
    this.socket.emit('say', text)
  }

  stop(): void {
    this.socket.off('disconnect')
    this.socket.disconnect()
  }
}

interface Servers {
  readonly upstreams: readonly string[]
}

/** The n-th configuration: much is another one each time, and what sessions are at never is. */
function variant(n: number, { upstreams }: Servers): Record<string, unknown> {
  const [kept, comesAndGoes] = upstreams
  const of = <T>(...values: readonly T[]): T => values[n % values.length]!
  return {
    routes: [
      ...of([], [{ path: '/beta/*', pool: 'chat', protocol: 'websocket', headers: { 'x-n': String(n) } }]),
      { name: 'chat', path: '/chat/ws', protocol: 'websocket', pool: of('chat', 'chat-2') },
      { path: '/live/io/', protocol: 'socket.io', pool: 'io' },
      { path: '/legacy', pool: 'legacy' },
    ],
    pools: {
      legacy: { upstreams: [{ url: kept, weight: of(1, 2, 3) }, ...of([], [{ url: comesAndGoes }])] },
      chat: { of: 'nodes', policy: of('round-robin', 'least-connections') },
      'chat-2': { of: 'nodes' },
    },
    policy: of('weighted-least-connections', 'smooth-weighted-round-robin', 'least-response-time'),
    persistence: { by: of('none', 'cookie') },
    allowedOrigins: of<unknown>('same-host', '*', ['https://a.example']),
    slowConsumer: of('close', 'drop', 'coalesce'),
    channels: { history: of([], [{ match: 'room:*' }]) },
    rebalance: { intervalMs: of(500, 300), tolerance: of(0.03, 0.1), load: of('sessions', 'traffic') },
    limits: {
      holdMs: 20_000 + n,
      inboxMessages: of(256, 512),
      idlePingMs: of(25_000, 5_000),
      migrationsPerSecond: of(500, 100),
      upstreamReadMs: 60_000 + n,
    },
  }
}

/** Sessions of each kind talk while the configuration of their gateway, a process of its own, is read again and again. */
export async function runReloads(load: ReloadLoad): Promise<ReloadFigures> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-reloads-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'gateway.json')
  const echoing = (ws: WebSocket) => ws.on('message', (data, binary) => ws.send(data, { binary }))
  const upstreams = [await startWsUpstream(echoing), await startWsUpstream(echoing)].map(({ url }) => url)
  const write = (n: number) => writeFileSync(file, JSON.stringify(variant(n, { upstreams })))
  write(0)
  const lines = new Recorder<{ msg: string; [key: string]: unknown }>()
  const child = startChild({
    name: 'gateway',
    script: 'src/cli/main.ts',
    args: ['gateway', '--host', '127.0.0.1', '--port', '0', '--internal-port', '0', '--config', file],
    ipc: true,
    onLine: (line) => lines.add(JSON.parse(line)),
  })
  onTestFinished(() => kill(child).then(() => {}))
  await orExit(
    child,
    lines.until((all) => all.some(({ msg }) => msg === 'gateway ready')),
  )
  const ready = lines.items.find(({ msg }) => msg === 'gateway ready') as never as Record<
    'public' | 'internal',
    { port: number }
  >
  const gateway = { linkUrl: `ws://127.0.0.1:${ready.internal.port}` }
  const base = `127.0.0.1:${ready.public.port}`
  const echo = {
    message: (session: { send(data: string): unknown }, data: unknown) => void session.send(String(data)),
  }
  for (const [id, pool] of [
    ['a', 'default'],
    ['b', 'default'],
    ['c', 'chat'],
    ['d', 'chat'],
    ['e', 'chat-2'],
  ] as const)
    await startTestNode(gateway, echo, { id, pool })
  await startSocketIoNode(
    [gateway],
    (server) => server.on('connection', (socket) => socket.on('say', (text) => socket.emit('echo', text))),
    { id: 'io-1', pool: 'io' },
  )

  const clients: Client[] = []
  onTestFinished(() => {
    for (const client of clients) client.stop()
  })
  for (let i = 0; i < load.perKind; i++) {
    const [chat, legacy, sse] = await Promise.all([
      new WsClient('websocket', `ws://${base}/chat/ws`).opened(),
      new WsClient('upstream', `ws://${base}/legacy`).opened(),
      SseClient.open(`http://${base}`),
    ])
    clients.push(chat, legacy, sse, new V1Client(`ws://${base}/ws`))
    clients.push(new IoClient(`http://${base}`, i % 4 === 0 ? 'polling' : 'websocket'))
  }
  await Promise.all(clients.map((client) => client.burst(1)))
  const admin = new AdminClient(`http://127.0.0.1:${ready.internal.port}`, undefined)
  const before = await admin.sessions()

  let stopping = false
  const talks = clients.map(async (client, i) => {
    await sleep((load.paceMs * i) / clients.length)
    while (!stopping && client.fault === null) {
      // Requests of one client have no order among themselves.
      await client.burst(client.kind === 'sse' ? 1 : 3)
      await sleep(load.paceMs)
    }
  })
  const startedAt = performance.now()
  let millisecondsMax = 0
  const reload = async (): Promise<string> => {
    const isAnswer = ({ msg }: { msg: string }) =>
      /^(configuration reloaded|the configuration was not)/.test(msg)
    const known = lines.items.filter(isAnswer).length
    const askedAt = performance.now()
    child.process.kill('SIGHUP')
    await orExit(
      child,
      lines.until((all) => all.filter(isAnswer).length > known),
    )
    millisecondsMax = Math.max(millisecondsMax, performance.now() - askedAt)
    return lines.items.filter(isAnswer)[known]!.msg
  }
  let refused = 0
  for (let n = 1; n <= load.reloads; n++) {
    if (n % 5 === 3) {
      writeFileSync(file, '{"policy": "none of them"}')
      if ((await reload()) !== 'configuration reloaded') refused++
    }
    write(n)
    expect(await reload()).toBe('configuration reloaded')
    await sleep(load.everyMs)
  }
  const seconds = (performance.now() - startedAt) / 1_000
  stopping = true
  await Promise.all(talks)
  const metrics = await admin.metrics()
  const after = new Set((await admin.sessions()).map(({ id }) => id))
  return {
    sessions: clients.length,
    messages: clients.reduce((sum, { got }) => sum + got, 0),
    seconds,
    applied: Number(/config_reloads_total\{outcome="applied"\} (\d+)/.exec(metrics)?.[1]),
    refused,
    moved: [...metrics.matchAll(/^evenkeel_migrations_total\{.*outcome="moved"\} (\d+)$/gm)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    ),
    millisecondsMax,
    faults: [...new Set(clients.flatMap(({ fault }) => fault ?? []))],
    gone: before.filter(({ id }) => !after.has(id)).length,
  }
}

export function reloadSummary(figures: ReloadFigures): string {
  const { sessions, messages, seconds, applied, refused, moved, millisecondsMax, faults, gone } = figures
  return (
    `${applied} reloads applied and ${refused} bad files refused in ${seconds.toFixed(1)} s under ${sessions} sessions: ` +
    `${messages} messages came back, ${moved} sessions moved, ${gone} gone, ${faults.length} kinds of faults; ` +
    `a reload took ${millisecondsMax.toFixed(0)} ms at most`
  )
}
