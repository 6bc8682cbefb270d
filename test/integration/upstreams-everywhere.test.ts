import { once } from 'node:events'
import { hostname } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { call, callJson } from '../support/admin-server.ts'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { RedisServer } from '../support/redis.ts'
import { UpstreamServer } from '../support/upstream-server.ts'
import { connectWs, startWsUpstream } from '../support/upstreams.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await RedisServer.start()
})
afterAll(async () => await redis?.stop())

const patience = { timeout: 20_000, interval: 20 }
const probe = { path: '/healthz', intervalMs: 100, timeoutMs: 5_000, failures: 3 }

function start(upstreams: string[] = [], more: object = {}): Promise<TestGateway> {
  const pools = { legacy: { upstreams, migrate: 'drain', probe, ...more } }
  return startTestGateway({ redis: redis.url, pools, routes: [{ path: '/*', pool: 'legacy' }] } as never)
}

/** Who answers requests at the gateway, by the servers' names. */
async function whoAnswers({ httpUrl }: TestGateway): Promise<string[]> {
  const answers = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const response = await fetch(`${httpUrl}/who`)
      return response.ok ? await response.text() : String(response.status)
    }),
  )
  return [...new Set(answers)].toSorted()
}

function named(name: string): Promise<UpstreamServer> {
  return UpstreamServer.start((_request, response) => response.end(name))
}

/** How nodes are at one gateway: id, weight, state. */
async function nodesAt({ internalPort }: TestGateway): Promise<string[]> {
  const { json } = await call(internalPort, 'GET', '/api/v1/nodes')
  return json.map((node: Record<string, unknown>) => `${node.id} ${node.weight} ${node.state}`)
}

test('added at one gateway, weighted and drained at the other: both agree, also one that comes later', async () => {
  await redis.command('FLUSHALL')
  const [a, b] = [await named('a'), await named('b')]
  const one = await start([a.url])
  const two = await start([a.url])
  expect(await whoAnswers(two)).toEqual(['a'])
  const body = { pool: 'legacy', url: b.url, id: 'b' }
  const added = await callJson(one.internalPort, 'POST', '/api/v1/upstreams', body)
  expect([added.status, added.json]).toEqual([201, expect.objectContaining({ ...body, origin: 'store' })])
  for (const gateway of [one, two]) {
    await expect.poll(() => nodesAt(gateway), patience).toEqual([`${a.id} 1 active`, 'b 1 active'])
    expect(await whoAnswers(gateway)).toEqual(['a', 'b'])
  }
  expect((await callJson(two.internalPort, 'POST', '/api/v1/upstreams', { ...body, weight: 2 })).status).toBe(
    409,
  )

  expect((await callJson(two.internalPort, 'PATCH', '/api/v1/nodes/b', { weight: 3 })).json.weight).toBe(3)
  await expect.poll(() => nodesAt(one), patience).toContain('b 3 active')
  expect((await call(one.internalPort, 'POST', `/api/v1/nodes/${a.id}/drain`)).status).toBe(202)
  await expect.poll(() => nodesAt(two), patience).toContain(`${a.id} 1 drained`)
  const late = await start([a.url])
  for (const gateway of [one, two, late]) {
    await expect.poll(() => nodesAt(gateway), patience).toEqual([`${a.id} 1 drained`, 'b 3 active'])
    expect(await whoAnswers(gateway)).toEqual(['b'])
  }
  expect((await call(two.internalPort, 'POST', `/api/v1/nodes/${a.id}/activate`)).status).toBe(200)
  for (const gateway of [one, late])
    await expect.poll(() => whoAnswers(gateway), patience).toEqual(['a', 'b'])

  const removed = await call(two.internalPort, 'DELETE', '/api/v1/upstreams/b')
  expect(removed.status).toBe(204)
  for (const gateway of [one, two, late])
    await expect.poll(() => nodesAt(gateway), patience).toEqual([`${a.id} 1 active`])
  expect(
    (await call(one.internalPort, 'DELETE', `/api/v1/upstreams/${encodeURIComponent(a.id)}`)).status,
  ).toBe(409)
})

test('any Redis client adds and removes upstreams', async () => {
  await redis.command('FLUSHALL')
  const server = await named('planted')
  const gateway = await start()
  expect((await fetch(`${gateway.httpUrl}/who`)).status).toBe(503)
  const entries = 'evenkeel:{upstreams}:entries'
  await redis.command('HSET', entries, 'chat-9', JSON.stringify({ pool: 'legacy', url: server.url }))
  await redis.command(
    'HSET',
    entries,
    'evil',
    JSON.stringify({ pool: 'legacy', url: 'http://169.254.169.254' }),
  )
  await redis.command('HSET', entries, 'junk', '{')
  await redis.command('PUBLISH', 'evenkeel:{upstreams}:changes', '')
  await expect.poll(() => whoAnswers(gateway), patience).toEqual(['planted'])
  const { json } = await call(gateway.internalPort, 'GET', '/api/v1/upstreams')
  expect(json).toEqual([
    expect.objectContaining({ id: 'chat-9', health: 'healthy', address: server.id }),
    expect.objectContaining({
      id: 'evil',
      health: 'unresolved',
      address: null,
      reason: expect.stringContaining('metadata'),
    }),
  ])
  await redis.command('HDEL', entries, 'chat-9')
  await expect.poll(() => whoAnswers(gateway), patience).toEqual(['503'])
})

test('a killed upstream is out, and back when it returns', async () => {
  await redis.command('FLUSHALL')
  const [a, b] = [await named('a'), await named('b')]
  const gateway = await start([a.url, b.url])
  expect(await whoAnswers(gateway)).toEqual(['a', 'b'])
  await a.kill()
  await expect.poll(() => nodesAt(gateway), patience).toContain(`${a.id} 1 down`)
  expect(await whoAnswers(gateway)).toEqual(['b'])
  const metrics = (await call(gateway.internalPort, 'GET', '/metrics')).text
  expect(metrics).toContain('evenkeel_upstreams{pool="legacy",health="unhealthy"} 1')
  expect(metrics).toContain(`evenkeel_node_up{node="${a.id}"} 0`)
  await a.restart()
  await expect.poll(() => whoAnswers(gateway), patience).toEqual(['a', 'b'])
})

test('one whose health page fails gets nothing new, and what it has goes on', async () => {
  await redis.command('FLUSHALL')
  const upstream = await startWsUpstream((ws) => ws.on('message', (data) => ws.send(`echo ${data}`)))
  let status = 200
  upstream.wss.options.server!.on('request', (_request, response) => response.writeHead(status).end())
  const gateway = await start([upstream.url])
  const client = await connectWs(gateway)
  status = 500
  await expect.poll(() => nodesAt(gateway), patience).toEqual([`${upstream.id} 1 down`])
  client.send('still there?')
  const [answer] = await once(client, 'message')
  expect(String(answer)).toBe('echo still there?')
  await expect(connectWs(gateway)).rejects.toThrow('503')
  status = 200
  await expect.poll(() => nodesAt(gateway), patience).toEqual([`${upstream.id} 1 active`])
  await connectWs(gateway)
})

test('clients that are refused get no upstream ejected; errors do', async () => {
  await redis.command('FLUSHALL')
  const upstream = await startWsUpstream(() => {})
  let status = 401
  upstream.wss.options.verifyClient = (_info, answer) => answer(false, status)
  const other = await startWsUpstream(() => {})
  const gateway = await start([upstream.url, other.url], { probe: { ...probe, path: undefined } })
  const healthOf = () => gateway.operator.node(upstream.id).health
  await call(gateway.internalPort, 'POST', `/api/v1/nodes/${other.id}/drain`)
  for (let n = 0; n < 20; n++) await expect(connectWs(gateway)).rejects.toThrow('502')
  expect(healthOf()).toBe('healthy')
  status = 500
  for (let n = 0; n < 5; n++) await expect(connectWs(gateway)).rejects.toThrow('502')
  await expect.poll(healthOf, patience).toBe('down')
  const { json } = await call(gateway.internalPort, 'GET', '/api/v1/upstreams')
  expect(json[0]).toMatchObject({ health: 'ejected', reason: 'it answers with errors' })
  // It may be drained all the same, and is down again when that is taken back.
  const post = (what: string) => call(gateway.internalPort, 'POST', `/api/v1/nodes/${upstream.id}/${what}`)
  expect((await post('drain')).status).toBe(202)
  await expect.poll(() => nodesAt(gateway), patience).toContain(`${upstream.id} 1 drained`)
  expect((await post('activate')).status).toBe(200)
  await expect.poll(() => nodesAt(gateway), patience).toContain(`${upstream.id} 1 down`)
})

describe('registration', () => {
  test('wants the secret', async () => {
    const server = await named('a')
    const pools = { legacy: { upstreams: [], migrate: 'drain', probe } }
    const { internalPort } = await startTestGateway({ pools } as never, { adminToken: 's3cret' })
    const body = { pool: 'legacy', url: server.url }
    expect((await callJson(internalPort, 'POST', '/api/v1/upstreams', body)).status).toBe(401)
    expect(server.connections).toBe(0)
  })

  test('of what may not be dialled is a 403, and nothing is dialled', async () => {
    await redis.command('FLUSHALL')
    const trap = await named('trap')
    const gateway = await start([], { allowedAddresses: ['10.0.0.0/8'] })
    const open = await start()
    const other = await start()
    const { internalPort, publicPort } = open
    await expect
      .poll(async () => (await call(internalPort, 'GET', '/api/v1/gateways')).json.length, patience)
      .toBe(3)
    const refused = async (at: TestGateway, url: string) =>
      (await callJson(at.internalPort, 'POST', '/api/v1/upstreams', { pool: 'legacy', url })).status
    expect(await refused(gateway, trap.url)).toBe(403)
    for (const url of [
      'http://169.254.169.254',
      'http://[fd00:ec2::254]',
      'http://0.0.0.0:80',
      // Listeners of gateways on this machine.
      `http://127.0.0.1:${internalPort}`,
      `http://localhost:${internalPort}`,
      `http://[::ffff:127.0.0.1]:${internalPort}`,
      `http://127.0.0.1:${publicPort}`,
      `http://127.0.0.1:${other.internalPort}`,
    ])
      expect([url, await refused(open, url)]).toEqual([url, 403])
    expect([400, 403]).toContain(await refused(open, `http://${hostname()}:${internalPort}`))
    expect(trap.connections).toBe(0)
    expect((await call(internalPort, 'GET', '/api/v1/upstreams')).json).toEqual([])
  })

  test('an id that a linked node has is taken', async () => {
    await redis.command('FLUSHALL')
    const gateway = await start()
    await startTestNode(gateway, echo, { id: 'linked' })
    const body = { pool: 'legacy', url: 'http://10.0.0.1', id: 'linked' }
    expect((await callJson(gateway.internalPort, 'POST', '/api/v1/upstreams', body)).status).toBe(409)
  })
})
