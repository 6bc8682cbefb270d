import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { createNode } from 'evenkeel/sdk'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ConfigView } from '../../src/admin/config-api.ts'
import { finish, killChildren, start } from '../support/cli.ts'
import { isRunning } from '../support/process-tree.ts'
import { RedisServer } from '../support/redis.ts'
import { startWorkers, type Worker } from '../support/workers.ts'

const quiet = { info() {}, warn() {}, error() {} }

afterEach(killChildren)

/** A Redis, a node that echoes, and workers to which it is linked. */
async function setUp(count: number, config: Record<string, unknown> = {}) {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const running = await startWorkers(count, { redis: redis.url, ...config })
  const node = createNode({ id: 'a', redis: redis.url, drainOnSigterm: false, logger: quiet })
  node.serve({ message: (session, data) => void session.send(data) })
  onTestFinished(() => node.stop())
  await node.start()
  for (const worker of running.workers) await linked(worker)
  return { ...running, redis }
}

async function linked({ admin }: Worker): Promise<void> {
  await expect.poll(async () => (await admin.nodes())[0]?.state, { timeout: 10_000 }).toBe('active')
}

async function connect(url: string, count: number): Promise<WebSocket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const ws = new WebSocket(url)
      onTestFinished(() => ws.terminate())
      await once(ws, 'open')
      return ws
    }),
  )
}

async function echo(ws: WebSocket, text: string): Promise<string> {
  const answer = once(ws, 'message')
  ws.send(text)
  return String((await answer)[0])
}

async function closeCode(ws: WebSocket): Promise<number> {
  return (await once(ws, 'close'))[0]
}

async function sessionsAt({ admin }: Worker): Promise<number> {
  return (await admin.nodes())[0]!.sessionsHere
}

test('workers share the public port, each has sessions, and all are seen as one cluster', async () => {
  const { workers, wsUrl, lines, pid } = await setUp(2, { gatewayId: 'gw' })
  expect(workers.map(({ gateway }) => gateway)).toEqual(['gw-1', 'gw-2'])
  const clients = await connect(wsUrl, 60)
  const counts = await Promise.all(workers.map(sessionsAt))
  expect(counts.reduce((sum, count) => sum + count)).toBe(60)
  expect(Math.min(...counts)).toBeGreaterThan(10)
  expect(await Promise.all(clients.map((ws, i) => echo(ws, `to ${i}`)))).toEqual(
    clients.map((_, i) => `to ${i}`),
  )
  for (const { admin } of workers)
    await expect
      .poll(async () => (await admin.gateways()).map(({ id }) => id).toSorted(), { timeout: 5_000 })
      .toEqual(['gw-1', 'gw-2'])

  const ready = lines.items.filter(({ msg }) => msg === 'gateway ready')
  expect(ready).toHaveLength(1)
  expect(ready[0]).toMatchObject({
    pid,
    workers: workers.map(({ gateway, pid, internalPort }) => ({
      gateway,
      pid,
      internal: { port: internalPort },
    })),
  })
  const joins = lines.items.filter(({ type }) => type === 'node-up')
  expect(new Set(joins.map(({ gateway }) => gateway))).toEqual(new Set(['gw-1', 'gw-2']))
})

test('a worker that is killed comes back under its id; the clients of the others notice nothing', async () => {
  const limits = { leaseMs: 1_200, leaseRefreshMs: 300 }
  const running = await setUp(2, { gatewayId: 'gw', limits })
  const [killed, other] = running.workers as [Worker, Worker]
  const clients = await connect(running.wsUrl, 40)
  const lost = await sessionsAt(killed)
  let closed = 0
  for (const ws of clients) ws.on('close', () => closed++)
  process.kill(killed.pid, 'SIGKILL')
  await expect.poll(() => closed, { timeout: 5_000 }).toBe(lost)
  const left = clients.filter((ws) => ws.readyState === WebSocket.OPEN)
  expect(left).toHaveLength(await sessionsAt(other))
  expect(new Set(await Promise.all(left.map((ws) => echo(ws, 'on'))))).toEqual(new Set(['on']))

  const back = await running.replacement()
  expect([back.gateway, back.pid === killed.pid]).toEqual(['gw-1', false])
  await linked(back)
  const more = await connect(running.wsUrl, 40)
  expect(await sessionsAt(back)).toBeGreaterThan(5)
  await Promise.all(more.map((ws) => echo(ws, 'anew')))
  expect(closed).toBe(lost)
})

describe('the end', () => {
  // Ctrl-C reaches every process of the terminal, and a service manager may signal all of a service.
  test.each([
    ['SIGTERM', 'the parent alone'],
    ['SIGTERM', 'every process'],
    ['SIGINT', 'every process'],
  ] as const)('%s to %s: clients are closed with 1012 and no process is left', async (signal, whom) => {
    const running = await setUp(2, { limits: { gatewayDrainMs: 1_000 } })
    const clients = await connect(running.wsUrl, 20)
    const codes = Promise.all(clients.map(closeCode))
    running.signal(signal)
    await running.lines.until((all) => all.filter(({ msg }) => msg === 'closing').length === 3)
    if (whom === 'every process') for (const { pid } of running.workers) process.kill(pid, signal)
    expect(new Set(await codes)).toEqual(new Set([1012]))
    expect(await running.exited).toEqual({ code: 0, signal: null })
    await running.gone()
  })

  test('a second signal ends all at once', async () => {
    const running = await setUp(2, { limits: { gatewayDrainMs: 60_000 } })
    const clients = await connect(running.wsUrl, 20)
    running.signal('SIGTERM')
    await running.lines.until((all) => all.filter(({ msg }) => msg === 'closing').length === 3)
    expect(await echo(clients.at(-1)!, 'still here')).toBe('still here')
    running.signal('SIGTERM')
    expect((await running.exited).code).toBe(1)
    await running.gone()
  })

  test('workers whose parent is killed leave by themselves, in order', async () => {
    const running = await setUp(2, { limits: { gatewayDrainMs: 1_000 } })
    const clients = await connect(running.wsUrl, 20)
    const codes = Promise.all(clients.map(closeCode))
    running.signal('SIGKILL')
    expect(new Set(await codes)).toEqual(new Set([1012]))
    await running.gone()
  })
})

test('a worker that is drained gets no new connection; stopped, it is replaced', async () => {
  const running = await setUp(2, { gatewayId: 'gw', limits: { gatewayDrainMs: 5_000 } })
  const [drained, other] = running.workers as [Worker, Worker]
  const before = await connect(running.wsUrl, 40)
  const [there, elsewhere] = [await sessionsAt(drained), await sessionsAt(other)]
  expect(there).toBeGreaterThan(5)
  let closed = 0
  for (const ws of before) ws.on('close', (code) => closed++ || expect(code).toBe(1012))

  const { id, total } = await other.admin.drainGateway(drained.gateway)
  expect(total).toBe(there)
  const after = await connect(running.wsUrl, 40)
  expect(await sessionsAt(other)).toBe(elsewhere + 40)
  await Promise.all(after.map((ws) => echo(ws, 'served')))
  await expect.poll(async () => (await other.admin.operation(id)).state, { timeout: 15_000 }).toBe('done')
  expect([closed, await sessionsAt(drained), await sessionsAt(other)]).toEqual([there, 0, elsewhere + 40])
  expect(isRunning(drained.pid)).toBe(true)

  process.kill(drained.pid, 'SIGTERM')
  const back = await running.replacement()
  expect(back.gateway).toBe('gw-1')
  await linked(back)
  await connect(running.wsUrl, 40)
  expect(await sessionsAt(back)).toBeGreaterThan(5)
})

test('new workers beside the old ones take over the port: while these leave, it stays open', async () => {
  const config = { limits: { gatewayDrainMs: 1_000 } }
  const old = await setUp(2, config)
  const fresh = await startWorkers(2, { redis: old.redis.url, ...config }, old.publicPort)
  for (const worker of fresh.workers) await linked(worker)
  await connect(old.wsUrl, 20)
  const outcomes: Record<string, number> = {}
  const attempt = async () => {
    const ws = new WebSocket(old.wsUrl)
    // What has come to a listener that closes, and not to its gateway, is reset or told to try again; the rest must not be.
    const outcome = await once(ws, 'open').then(
      () => 'open',
      (error: NodeJS.ErrnoException) => error.code ?? error.message,
    )
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    ws.terminate()
  }
  let left = false
  void old.exited.then(() => {
    left = true
  })
  old.signal('SIGTERM')
  while (!left) await Promise.all([attempt(), attempt()])
  const { open = 0, ECONNRESET: reset = 0, ...others } = outcomes
  const { 'Unexpected server response: 503': draining = 0, ...refused } = others
  expect(refused).toEqual({})
  expect(reset + draining).toBeLessThan(open / 20)
  await connect(old.wsUrl, 40)
  const counts = await Promise.all(fresh.workers.map(sessionsAt))
  expect(Math.min(...counts)).toBeGreaterThan(5)
})

describe('what is wrong with the start is said once', () => {
  const flags = ['gateway', '--workers', '3', '--host', '127.0.0.1', '--internal-port', '0']

  async function failure(args: string[]): Promise<string> {
    const { code, stdout, stderr } = await finish(start([...flags, ...args]))
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
    return stderr
  }

  test('no Redis', async () => {
    expect(await failure(['--port', '0'])).toBe(
      'evenkeel: --workers: 3 workers find each other through Redis; set redis (EVENKEEL_REDIS, --redis), or workers to 1\n',
    )
  })

  test('what only a worker finds out', async () => {
    expect(await failure(['--port', '0', '--redis', 'http://127.0.0.1'])).toContain('not a Redis URL')
  })

  test('a port that another program has', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    expect(await failure(['--port', String(port), '--redis', 'redis://127.0.0.1:1'])).toContain(
      `Cannot listen on 127.0.0.1:${port}: another program listens there`,
    )
  })
})

test('workers read their configuration again together: all of them have the new one, or all keep the former', async () => {
  const routes = [{ name: 'chat', path: '/chat/ws', protocol: 'websocket', pool: 'default' }]
  const { workers, wsUrl, lines, signal, write, redis, replacement } = await setUp(2, { routes })
  const clients = await connect(wsUrl, 8)
  const api = (worker: Worker, method: string, path: string, body?: object) =>
    fetch(`http://127.0.0.1:${worker.internalPort}/api/v1${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
  const views = (of: readonly Worker[] = workers) =>
    Promise.all(of.map(async (worker) => (await (await api(worker, 'GET', '/config')).json()) as ConfigView))
  const base = { redis: redis.url, routes }

  write({ ...base, slowConsumer: 'drop', limits: { messageBytes: 5_000 } })
  signal('SIGHUP')
  await lines.until((all) => all.some(({ msg }) => msg === 'configuration reloaded'))
  const applied = {
    config: { slowConsumer: 'drop' },
    pending: ['limits.messageBytes'],
    lastReload: { outcome: 'applied' },
  }
  await expect.poll(() => views()).toMatchObject([applied, applied])

  // Any of them can be asked.
  write({ ...base, slowConsumer: 'coalesce' })
  expect(await (await api(workers[1]!, 'POST', '/config/reload', {})).json()).toMatchObject({
    outcome: 'applied',
    changes: expect.arrayContaining([{ path: 'slowConsumer', from: 'drop', to: 'coalesce', effect: 'live' }]),
  })
  write({ ...base, slowConsumer: 'whatever' })
  const refused = await api(workers[0]!, 'POST', '/config/reload', {})
  expect([refused.status, await refused.json()]).toMatchObject([422, { mistakes: [{ line: 1 }] }])
  const former = { config: { slowConsumer: 'coalesce' }, lastReload: { outcome: 'invalid' } }
  await expect.poll(() => views()).toMatchObject([former, former])
  const coalescing = await views()

  // One of two cannot: a node of this pool is linked to it alone.
  const { internalPort } = workers[0]!
  const alone = createNode({
    id: 'alone',
    pool: 'odd',
    gateways: [`ws://127.0.0.1:${internalPort}`],
    drainOnSigterm: false,
    logger: quiet,
  })
  alone.serve({ message() {} })
  onTestFinished(() => alone.stop())
  await alone.start()
  write({ ...base, slowConsumer: 'close', pools: { odd: { upstreams: ['http://127.0.0.1:9'] } } })
  const failed = await api(workers[1]!, 'POST', '/config/reload', {})
  expect([failed.status, await failed.json()]).toMatchObject([
    409,
    { detail: expect.stringContaining('odd') },
  ])
  expect((await views()).map(({ hash }) => hash)).toEqual(coalescing.map(({ hash }) => hash))

  // What an operator changes at one holds at all, and for who takes a worker's place.
  const switched = await api(workers[0]!, 'PATCH', '/routes/chat', { pool: 'green' })
  expect(await switched.json()).toMatchObject({ pool: 'green', gateways: { [workers[1]!.gateway]: 'done' } })
  const next = replacement()
  process.kill(workers[1]!.pid, 'SIGKILL')
  for (const view of await views([workers[0]!, await next]))
    expect(view).toMatchObject({ config: { slowConsumer: 'coalesce', routes: [{ pool: 'green' }] } })
  const open = clients.filter(({ readyState }) => readyState === WebSocket.OPEN)
  expect(await Promise.all(open.map((ws) => echo(ws, 'here')))).toEqual(open.map(() => 'here'))
}, 30_000)
