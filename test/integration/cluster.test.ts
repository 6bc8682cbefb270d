import { once } from 'node:events'
import { createNode, type SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { RedisServer } from '../support/redis.ts'

const quiet = { info() {}, warn() {}, error() {} }

async function startRedis(): Promise<RedisServer> {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  return redis
}

/** A node that is told nothing but the Redis. */
async function startNode(redis: RedisServer, id: string, handlers: SessionHandlers = {}, weight = 1) {
  const node = createNode({ id, weight, redis: redis.url, drainOnSigterm: false, logger: quiet })
  node.serve({
    open(session) {
      session.join('all')
    },
    ...handlers,
  })
  onTestFinished(() => node.stop())
  await node.start()
  return node
}

async function connect(gateway: TestGateway, count: number): Promise<WebSocket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const ws = new WebSocket(gateway.wsUrl)
      onTestFinished(() => ws.terminate())
      await once(ws, 'open')
      return ws
    }),
  )
}

function nodeIds(gateway: TestGateway): string[] {
  return gateway.operator
    .nodes()
    .filter(({ state }) => state !== 'down')
    .map(({ id }) => id)
    .toSorted()
}

test('gateways and nodes find each other through Redis, now and later', async () => {
  const redis = await startRedis()
  const first = await startTestGateway({ redis: redis.url })
  await startNode(redis, 'a')
  expect(nodeIds(first)).toEqual(['a'])
  const second = await startTestGateway({ redis: redis.url })
  await expect.poll(() => nodeIds(second)).toEqual(['a'])
  await startNode(redis, 'b')
  for (const gateway of [first, second]) await expect.poll(() => nodeIds(gateway)).toEqual(['a', 'b'])
  await expect.poll(() => first.operator.gateways().map(({ self }) => self)).toEqual([true, false])
})

test('a publish reaches the members at every gateway, from nodes, operators and any Redis client', async () => {
  const redis = await startRedis()
  const gateways = [
    await startTestGateway({ redis: redis.url }),
    await startTestGateway({ redis: redis.url }),
  ]
  const node = await startNode(redis, 'a')
  for (const gateway of gateways) await expect.poll(() => nodeIds(gateway)).toEqual(['a'])
  const got: string[][] = [[], []]
  for (const [i, gateway] of gateways.entries()) {
    const [ws] = await connect(gateway, 1)
    ws!.on('message', (data) => got[i]!.push(String(data)))
  }
  const both = (text: string) =>
    expect.poll(() => got.map((list) => list.includes(text))).toEqual([true, true])
  await expect
    .poll(async () => {
      await gateways[0]!.operator.publish('all', 'ready?')
      return got.every((list) => list.length > 0)
    })
    .toBe(true)
  node.publish('all', 'from a node')
  await both('from a node')
  await gateways[1]!.operator.publish('all', 'from an operator')
  await both('from an operator')
  await redis.command('PUBLISH', 'evenkeel:channel:all', 'from redis-cli')
  await both('from redis-cli')
})

test('gateways balance together, and one plan moves the sessions of both', async () => {
  const redis = await startRedis()
  const config = { redis: redis.url, rebalance: { intervalMs: 500 } }
  const gateways = [await startTestGateway(config), await startTestGateway(config)]
  await startNode(redis, 'a')
  await startNode(redis, 'b', {}, 2)
  for (const gateway of gateways) await expect.poll(() => nodeIds(gateway)).toEqual(['a', 'b'])
  await Promise.all(gateways.map((gateway) => connect(gateway, 60)))
  const loads = () =>
    gateways.map((g) => Object.fromEntries(g.operator.nodes().map((n) => [n.id, n.sessions])))
  await expect
    .poll(() => loads().every(({ a = 0, b = 0 }) => a + b === 120 && Math.abs(a - 40) <= 2), {
      timeout: 10_000,
    })
    .toBe(true)

  await startNode(redis, 'c', {}, 3)
  const fair = ({ a = 0, b = 0, c = 0 }) =>
    a + b + c === 120 && Math.abs(a - 20) <= 1 && Math.abs(b - 40) <= 2 && Math.abs(c - 60) <= 2
  await expect.poll(() => loads().every(fair), { timeout: 15_000 }).toBe(true)
  const here = gateways.map((g) => g.operator.nodes().find(({ id }) => id === 'c')!.sessionsHere)
  expect(Math.min(...here)).toBeGreaterThan(20)
})

test('a node is drained and weighted at all gateways by asking one', async () => {
  const redis = await startRedis()
  const gateways = [
    await startTestGateway({ redis: redis.url }),
    await startTestGateway({ redis: redis.url }),
  ]
  await startNode(redis, 'a')
  await startNode(redis, 'b')
  for (const gateway of gateways) await expect.poll(() => nodeIds(gateway)).toEqual(['a', 'b'])
  await Promise.all(gateways.map((gateway) => connect(gateway, 20)))
  const [one, other] = gateways as [TestGateway, TestGateway]
  await expect.poll(() => one.operator.node('a').sessions).toBeGreaterThan(10)
  const { id } = one.operator.drain('a')
  await expect.poll(() => one.operator.operation(id).state, { timeout: 10_000 }).toBe('done')
  expect(other.operator.node('a')).toMatchObject({ state: 'drained', sessions: 0 })
  expect(one.operator.node('b').sessions).toBe(40)
  other.operator.activate('a')
  await expect.poll(() => one.operator.node('a').state).toBe('active')
  other.operator.setWeight('a', 3)
  await expect.poll(() => one.operator.node('a').weight).toBe(3)
  // A gateway that comes later learns it from the node.
  const third = await startTestGateway({ redis: redis.url })
  await expect.poll(() => third.operator.nodes().find((node) => node.id === 'a')?.weight).toBe(3)
})

test('Redis away: sessions go on, /readyz names it, and it heals by itself', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway({ redis: redis.url })
  await startNode(redis, 'a', { message: (session, data) => void session.send(data) })
  const [ws] = await connect(gateway, 1)
  const got: string[] = []
  ws!.on('message', (data) => got.push(String(data)))
  await redis.kill()
  // First its connection is closed, then it cannot be made anew: from then on the reason stays as it is.
  await expect
    .poll(() => gateway.operator.readiness().reasons, { timeout: 10_000 })
    .toEqual([expect.stringContaining('ECONNREFUSED')])
  const answer = await fetch(`${gateway.httpUrl}/readyz`)
  expect([answer.status, await answer.json()]).toEqual([
    200,
    { ready: true, reasons: gateway.operator.readiness().reasons },
  ])
  ws!.send('still there')
  await expect.poll(() => got).toEqual(['still there'])
  await connect(gateway, 1)
  await expect(gateway.operator.publish('all', 'x')).rejects.toMatchObject({ code: 'NOT_READY' })
  await redis.restart()
  await expect.poll(() => gateway.operator.readiness().reasons, { timeout: 15_000 }).toEqual([])
  await expect
    .poll(
      async () => {
        await gateway.operator.publish('all', 'healed').catch(() => {})
        return got.includes('healed')
      },
      { timeout: 10_000 },
    )
    .toBe(true)
})

test('two nodes with one id, two gateways with one id: the second is told', async () => {
  const redis = await startRedis()
  await startTestGateway({ redis: redis.url, gatewayId: 'gw' })
  await expect(startTestGateway({ redis: redis.url, gatewayId: 'gw' })).rejects.toMatchObject({
    code: 'CONFLICT',
  })
  await startNode(redis, 'a')
  const twin = createNode({ id: 'a', redis: redis.url, drainOnSigterm: false, logger: quiet })
  twin.serve({})
  await expect(twin.start()).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('every gateway shows the sessions of all, and finds the one that is meant', async () => {
  const redis = await startRedis()
  const gateways = [
    await startTestGateway({ redis: redis.url, gatewayId: 'gw-1' }),
    await startTestGateway({ redis: redis.url, gatewayId: 'gw-2' }),
  ]
  await startNode(redis, 'a')
  await startNode(redis, 'b')
  for (const gateway of gateways) await expect.poll(() => nodeIds(gateway)).toEqual(['a', 'b'])
  await Promise.all(gateways.map((gateway) => connect(gateway, 5)))
  await expect.poll(() => gateways[0]!.operator.gateways().length).toBe(2)
  const api = `${gateways[0]!.internalUrl}/api/v1`
  const call = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(api + path, { headers: { 'content-type': 'application/json' }, ...init })
    // biome-ignore lint/suspicious/noExplicitAny: the shapes are what is tested
    return { status: response.status, body: (response.status === 204 ? null : await response.json()) as any }
  }

  const ids: string[] = []
  for (let next: string | null = ''; next !== null; ) {
    const page: { sessions: { id: string }[]; next: string | null } = (
      await call(`/sessions?limit=2${next && `&cursor=${encodeURIComponent(next)}`}`)
    ).body
    ids.push(...page.sessions.map(({ id }) => id))
    next = page.next
  }
  expect(new Set(ids).size).toBe(10)

  const elsewhere = gateways[1]!.operator.sessions().sessions[0]!
  expect((await call(`/sessions/${elsewhere.id}`)).body).toMatchObject({
    id: elsewhere.id,
    node: elsewhere.node,
  })
  const to = elsewhere.node === 'a' ? 'b' : 'a'
  const started = await call(`/sessions/${elsewhere.id}/migrate`, {
    method: 'POST',
    body: JSON.stringify({ to }),
  })
  expect(started.status).toBe(202)
  await expect.poll(async () => (await call(`/operations/${started.body.id}`)).body.state).toBe('done')
  expect(gateways[1]!.operator.session(elsewhere.id).node).toBe(to)
  expect((await call(`/sessions/${elsewhere.id}`, { method: 'DELETE' })).status).toBe(204)
  await expect.poll(() => gateways[1]!.operator.sessions().sessions.length).toBe(4)
  expect((await call('/sessions/nobody')).status).toBe(404)
  expect((await call('/sessions?cursor=gone~')).status).toBe(400)
})

test('a gateway that leaves: not ready and without a listener at once, clients closed spread over the window, SSE told to come back', async () => {
  const gateway = await startTestGateway({ limits: { gatewayDrainMs: 600 } })
  const node = createNode({ id: 'a', gateways: [gateway.linkUrl], drainOnSigterm: false, logger: quiet })
  node.serve({})
  onTestFinished(() => node.stop())
  await node.start()
  const clients = await connect(gateway, 60)
  const stream = await fetch(`${gateway.httpUrl}/sse`)
  const text = stream.text()
  const closes = clients.map(async (ws) => {
    const [code] = await once(ws, 'close')
    return { code, at: performance.now() }
  })
  const left = gateway.leave()
  expect((await fetch(`${gateway.internalUrl}/readyz`)).status).toBe(503)
  const refused = new WebSocket(gateway.wsUrl)
  expect((await once(refused, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' })
  await left
  const ended = await Promise.all(closes)
  expect(new Set(ended.map(({ code }) => code))).toEqual(new Set([1012]))
  const times = ended.map(({ at }) => at)
  expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(300)
  expect(await text).toMatch(/\nretry: \d+\n\n$/)
})
