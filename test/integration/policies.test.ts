import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionHandlers } from 'evenkeel/sdk'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { UpstreamServer } from '../support/upstream-server.ts'
import { startUpstreamGateway } from '../support/upstreams.ts'

const patience = { timeout: 15_000 }

async function connect(gateway: TestGateway, headers: Record<string, string> = {}): Promise<WebSocket> {
  const ws = new WebSocket(gateway.wsUrl, { headers })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

async function connectMany(gateway: TestGateway, count: number): Promise<WebSocket[]> {
  const sockets: WebSocket[] = []
  for (let i = 0; i < count; i++) sockets.push(await connect(gateway))
  return sockets
}

async function ask(ws: WebSocket): Promise<string> {
  ws.send('who')
  const [answer] = await once(ws, 'message')
  return String(answer)
}

function named(id: string): SessionHandlers {
  return { message: (session) => void session.send(id) }
}

function counts(gateway: TestGateway): Record<string, number> {
  return Object.fromEntries(gateway.operator.nodes().map(({ id, sessions }) => [id, sessions]))
}

describe('key-hash', () => {
  const config = { policy: 'key-hash', hashKey: { by: 'header', name: 'X-User' } } as const
  const users = Array.from({ length: 12 }, (_, i) => `user-${i}`)

  async function nodesOf(gateway: TestGateway): Promise<Record<string, string>> {
    const places: Record<string, string> = {}
    for (const user of users) {
      // One at a time: who comes beside others may find its node full by its share.
      const ws = await connect(gateway, { 'x-user': user })
      places[user] = await ask(ws)
      ws.close()
      await once(ws, 'close')
      await expect.poll(() => gateway.operator.sessions().sessions.length).toBe(0)
    }
    return places
  }

  test('leads a key to the same node, and a node that goes takes only its own keys with it', async () => {
    const gateway = await startTestGateway(config)
    for (const id of ['a', 'b', 'c']) await startTestNode(gateway, named(id), { id })
    const before = await nodesOf(gateway)
    expect(new Set(Object.values(before)).size).toBe(3)
    expect(await nodesOf(gateway)).toEqual(before)
    gateway.operator.drain('c')
    const after = await nodesOf(gateway)
    for (const user of users) {
      if (before[user] === 'c') expect(after[user]).not.toBe('c')
      else expect(after[user]).toBe(before[user])
    }
  })

  test('sessions that it placed move off a node that drains, to where their keys lead, but not for balance', async () => {
    const gateway = await startTestGateway(config)
    await startTestNode(gateway, named('a'), { id: 'a' })
    const sockets = await Promise.all(users.map((user) => connect(gateway, { 'x-user': user })))
    const migrations = new Migrations(gateway)
    for (const id of ['b', 'c']) await startTestNode(gateway, named(id), { id })
    expect(gateway.operator.rebalance()).toMatchObject([{ moves: [], operation: null }])
    expect(counts(gateway)).toEqual({ a: 12, b: 0, c: 0 })
    gateway.operator.drain('a')
    await migrations.nth(users.length - 1)
    const places = await Promise.all(sockets.map(ask))
    for (const ws of sockets) ws.terminate()
    await expect.poll(() => gateway.operator.sessions().sessions.length).toBe(0)
    // Twelve at two nodes: some may have found theirs full by its share.
    const alone = Object.values(await nodesOf(gateway))
    expect(places.filter((place, i) => place === alone[i]).length).toBeGreaterThan(9)
  })

  test('holds for requests that are passed through', async () => {
    const upstreams = await Promise.all(
      ['a', 'b', 'c'].map((id) => UpstreamServer.start((_, answer) => answer.end(id))),
    )
    const gateway = await startUpstreamGateway(
      upstreams.map(({ url }) => url),
      { config },
    )
    const get = async (user: string) => (await fetch(gateway.httpUrl, { headers: { 'x-user': user } })).text()
    // The nodes are named by their ports: enough users that each port gets some (all but once in 10⁷ runs).
    const many = Array.from({ length: 48 }, (_, i) => `user-${i}`)
    const places = new Map<string, string>()
    for (const user of many) places.set(user, await get(user))
    expect(new Set(places.values()).size).toBe(3)
    for (const user of many) expect(await get(user)).toBe(places.get(user))
  })
})

test('a pool may have a policy of its own', async () => {
  const upstreams = await Promise.all(
    ['a', 'b', 'c'].map((id) => UpstreamServer.start((_, answer) => answer.end(id))),
  )
  const gateway = await startTestGateway({
    policy: 'random',
    pools: {
      legacy: {
        upstreams: upstreams.map(({ url }) => url),
        migrate: 'drain',
        probe: { intervalMs: 600_000, timeoutMs: 5_000, failures: 3 },
        policy: 'round-robin',
      },
    },
    routes: [{ path: '/*', pool: 'legacy' }],
  })
  const answers: string[] = []
  for (let i = 0; i < 12; i++) answers.push(await (await fetch(gateway.httpUrl)).text())
  expect(answers.slice(3)).toEqual(answers.slice(0, 9))
  expect(new Set(answers.slice(0, 3)).size).toBe(3)
})

test('least-response-time prefers the node that answers sooner', async () => {
  const gateway = await startTestGateway({ policy: 'least-response-time', rebalance: { enabled: false } })
  await startTestNode(
    gateway,
    {
      ...echo,
      message: async (session, data) => {
        await delay(200)
        session.send(data)
      },
    },
    { id: 'slow' },
  )
  await startTestNode(gateway, echo, { id: 'fast' })
  const sockets = await connectMany(gateway, 2)
  expect(counts(gateway)).toEqual({ slow: 1, fast: 1 })
  for (let i = 0; i < 3; i++) await Promise.all(sockets.map(ask))
  const times = Object.fromEntries(gateway.operator.nodes().map(({ id, responseMs }) => [id, responseMs]))
  expect(times.slow).toBeGreaterThan(190)
  expect(times.fast).toBeLessThan(times.slow! / 4)
  // At half the time it would get twice as many; it is much faster than that.
  await connectMany(gateway, 4)
  expect(counts(gateway)).toEqual({ slow: 1, fast: 5 })
})

test('least-bandwidth prefers the node whose sessions send and get less', async () => {
  const gateway = await startTestGateway({ policy: 'least-bandwidth', rebalance: { enabled: false } })
  for (const id of ['a', 'b']) await startTestNode(gateway, named(id), { id })
  const sockets = await connectMany(gateway, 2)
  const loud = (await ask(sockets[0]!)) === 'a' ? sockets[0]! : sockets[1]!
  const payload = 'x'.repeat(100_000)
  const timer = setInterval(() => loud.send(payload), 50)
  onTestFinished(() => clearInterval(timer))
  const rate = (id: string) => gateway.operator.node(id).bytesPerSecond
  await expect.poll(() => rate('a'), patience).toBeGreaterThan(1_200_000)
  await connectMany(gateway, 2)
  expect(counts(gateway)).toEqual({ a: 1, b: 3 })
})

test('a new node gets its share slowly', async () => {
  const rebalance = { enabled: true, intervalMs: 300, tolerance: 0.03 }
  const gateway = await startTestGateway({ slowStartMs: 5_000, rebalance })
  await startTestNode(gateway, echo, { id: 'a' })
  await connectMany(gateway, 22)
  await delay(5_100)
  const plans: number[] = []
  gateway.operator.onEvent((event) => {
    if (event.type === 'plan') plans.push(event.moves.reduce((sum, { count }) => sum + count, 0))
  })
  await startTestNode(gateway, echo, { id: 'b' })
  // Within one of its share the planner leaves it alone.
  await expect.poll(() => counts(gateway).b, patience).toBeGreaterThanOrEqual(10)
  // A tenth of a's at first, and so on; a busy machine may look a second or two later. At once it would be ten in one plan.
  expect(plans[0]).toBeLessThan(8)
  expect(plans.length).toBeGreaterThan(1)
})

test('balance by what nodes report', async () => {
  const rebalance = { enabled: true, intervalMs: 1_000, tolerance: 0.03, load: 'reported' } as const
  const gateway = await startTestGateway({ rebalance })
  // A session of `a` counts as three of `b`.
  const load = (id: string, each: number) => () => (counts(gateway)[id] ?? 0) * each
  await startTestNode(gateway, echo, { id: 'a', load: load('a', 3) })
  await connectMany(gateway, 40)
  await startTestNode(gateway, echo, { id: 'b', load: load('b', 1) })
  const migrations = new Migrations(gateway)
  await migrations.nth(9)
  await expect.poll(() => counts(gateway).a!, patience).toBeLessThan(24)
  expect(gateway.operator.node('a').load).toBeGreaterThan(0)
})
