import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { createNode, type EvenkeelNode } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { AdminClient } from '../support/admin-client.ts'
import { killChildren, run } from '../support/cli.ts'
import { type GatewayChild, startGatewayChild } from '../support/gateway-child.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { RedisServer } from '../support/redis.ts'

const quiet = { info() {}, warn() {}, error() {} }

async function startRedis(): Promise<RedisServer> {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  return redis
}

async function startEcho(
  where: { redis: string } | { gateways: string[] },
  id: string,
): Promise<EvenkeelNode> {
  const node = createNode({ id, ...where, drainOnSigterm: false, logger: quiet })
  node.serve({ message: (session, data) => void session.send(data) })
  onTestFinished(() => node.stop())
  await node.start()
  return node
}

async function connect(url: string, count: number): Promise<WebSocket[]> {
  const clients: WebSocket[] = []
  // One after the other: a gateway closes its clients in the order in which they came.
  for (let i = 0; i < count; i++) {
    const ws = new WebSocket(url)
    onTestFinished(() => ws.terminate())
    await once(ws, 'open')
    clients.push(ws)
  }
  return clients
}

async function echo(ws: WebSocket, text: string): Promise<string> {
  const answer = once(ws, 'message')
  ws.send(text)
  return String((await answer)[0])
}

/** When and how each client is closed. */
function closes(clients: WebSocket[]): Promise<{ code: number; at: number }[]> {
  return Promise.all(
    clients.map(async (ws) => ({ code: (await once(ws, 'close'))[0] as number, at: performance.now() })),
  )
}

async function refusal(url: string): Promise<unknown> {
  const [error] = await once(new WebSocket(url), 'error')
  return (error as NodeJS.ErrnoException).code
}

/** Asks for a path over one connection that is kept open; `local` says which. */
function keepAlive(port: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  return async (path: string) => {
    const asking = request({ host: '127.0.0.1', port, path, agent }).end()
    const [response] = await once(asking, 'response')
    const { localPort: local } = response.socket
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    return { status: response.statusCode as number, body: JSON.parse(text), local: local as number }
  }
}

async function linked(gateway: TestGateway | GatewayChild, ...ids: string[]): Promise<void> {
  const nodes = async () => ('admin' in gateway ? gateway.admin.nodes() : gateway.operator.nodes())
  await expect
    .poll(async () => (await nodes()).map(({ id }) => id).toSorted(), { timeout: 10_000 })
    .toEqual(ids)
}

test('SIGTERM: not ready, no listener and announced as draining at once; clients leave over the window; then the entry is gone', async () => {
  const redis = await startRedis()
  const other = await startTestGateway({ redis: redis.url, gatewayId: 'gw-2' })
  const gateway = await startGatewayChild({
    redis: redis.url,
    gatewayId: 'gw-1',
    limits: { gatewayDrainMs: 2_000 },
  })
  await startEcho({ redis: redis.url }, 'a')
  await linked(gateway, 'a')
  const clients = await connect(gateway.wsUrl, 20)
  const [outside, inside] = [keepAlive(gateway.publicPort), keepAlive(gateway.internalPort)]
  const before = await outside('/readyz')
  expect([before.status, (await inside('/readyz')).status]).toEqual([200, 200])
  const stateOf = (id: string) => other.operator.gateways().find((one) => one.id === id)?.state
  await expect.poll(() => stateOf('gw-1'), { timeout: 5_000 }).toBe('active')

  const ended = closes(clients)
  gateway.signal('SIGTERM')
  await expect.poll(async () => (await inside('/readyz')).status).toBe(503)
  const draining = { status: 503, body: { ready: false, reasons: ['draining'] } }
  // The same connection, still open, and the way to the gateway's clients.
  expect(await outside('/readyz')).toEqual({ ...draining, local: before.local })
  expect(await refusal(gateway.wsUrl)).toBe('ECONNREFUSED')
  expect(await echo(clients.at(-1)!, 'still here')).toBe('still here')
  await expect.poll(() => stateOf('gw-1'), { timeout: 1_500 }).toBe('draining')
  expect(await inside('/readyz')).toMatchObject(draining)

  const times = (await ended).map(({ at }) => at)
  expect(new Set((await ended).map(({ code }) => code))).toEqual(new Set([1012]))
  expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(1_000)
  const closedAt = performance.now()
  // Idle connections, kept open by both sides, are no reason to stay.
  expect(await gateway.exited).toEqual({ code: 0, signal: null })
  expect(performance.now() - closedAt).toBeLessThan(2_000)
  await expect.poll(() => stateOf('gw-1'), { timeout: 2_000 }).toBeUndefined()
})

test('any gateway drains another one, which stays up, empty, until it is stopped', async () => {
  const redis = await startRedis()
  const asked = await startTestGateway({ redis: redis.url, gatewayId: 'gw-2' })
  const gateway = await startGatewayChild({
    redis: redis.url,
    gatewayId: 'gw-1',
    limits: { gatewayDrainMs: 1_500 },
  })
  await startEcho({ redis: redis.url }, 'a')
  await linked(gateway, 'a')
  const clients = await connect(gateway.wsUrl, 12)
  await expect.poll(() => asked.operator.gateways().length, { timeout: 5_000 }).toBe(2)
  const admin = new AdminClient(asked.internalUrl, undefined)

  const ended = closes(clients)
  const started = await admin.drainGateway('gw-1')
  expect(started).toMatchObject({ kind: 'drain-gateway', subject: 'gw-1', state: 'running', total: 12 })
  expect((await admin.drainGateway('gw-1')).id).toBe(started.id)
  expect(await refusal(gateway.wsUrl)).toBe('ECONNREFUSED')
  const seen = new Set<number>()
  await expect
    .poll(
      async () => {
        const { moved, state } = await admin.operation(started.id)
        seen.add(moved)
        return state
      },
      { timeout: 10_000 },
    )
    .toBe('done')
  expect(seen.size).toBeGreaterThan(3)
  expect(await admin.operation(started.id)).toMatchObject({ moved: 12, failed: 0, total: 12 })
  expect(new Set((await ended).map(({ code }) => code))).toEqual(new Set([1012]))

  for (const view of [admin, gateway.admin])
    await expect
      .poll(async () => (await view.gateways()).map(({ id, state }) => [id, state]).toSorted())
      .toEqual([
        ['gw-1', 'draining'],
        ['gw-2', 'active'],
      ])
  expect(await admin.drainGateway('gw-1')).toMatchObject({ id: started.id, state: 'done' })
  expect((await gateway.admin.nodes())[0]).toMatchObject({ id: 'a', health: 'healthy' })
  await expect(admin.drainGateway('nobody')).rejects.toMatchObject({ status: 404 })

  const stoppedAt = performance.now()
  gateway.signal('SIGTERM')
  expect(await gateway.exited).toEqual({ code: 0, signal: null })
  expect(performance.now() - stoppedAt).toBeLessThan(3_000)
})

test('a client that is asked to resume elsewhere and stays is closed, so that the gateway is empty', async () => {
  const gateway = await startTestGateway({ gatewayId: 'gw-1', limits: { gatewayDrainMs: 200 } })
  await startEcho({ gateways: [gateway.linkUrl] }, 'a')
  const client = new WebSocket(gateway.wsUrl, 'evenkeel.v1')
  onTestFinished(() => client.terminate())
  const frames: string[] = []
  client.on('message', (data) => frames.push(String(data)))
  await once(client, 'open')
  client.send('h{}')
  await expect.poll(() => frames[0]?.[0]).toBe('w')
  const closed = once(client, 'close')
  const { id } = gateway.operator.drainGateway('gw-1')
  expect((await closed)[0]).toBe(1012)
  expect(frames).toContain('r')
  await expect.poll(() => gateway.operator.operation(id)).toMatchObject({ state: 'done', moved: 1, total: 1 })
})

test('evenkeel drain --gateway follows the clients as they leave', async () => {
  onTestFinished(killChildren)
  const gateway = await startGatewayChild({ gatewayId: 'gw-1', limits: { gatewayDrainMs: 500 } })
  await startEcho({ gateways: [gateway.linkUrl] }, 'a')
  await connect(gateway.wsUrl, 5)
  const args = ['drain', '--gateway', 'gw-1', '--url', `http://127.0.0.1:${gateway.internalPort}`]
  const started = await run([...args, '--no-wait', '--json'])
  expect(JSON.parse(started.stdout)).toMatchObject({ kind: 'drain-gateway', subject: 'gw-1', total: 5 })
  expect((await gateway.admin.gateways())[0]).toMatchObject({ self: true, state: 'draining' })
  const waited = await run(args)
  expect(waited).toMatchObject({ code: 0, stderr: '' })
  expect(waited.stdout).toMatch(/^drain of gateway gw-1: done, 5 of 5 left, 0 failed, took [\d.]+ m?s\n$/)
})

test('a gateway that drains plans nothing, keeps its links, and carries out what others plan', async () => {
  const redis = await startRedis()
  const config = { redis: redis.url, limits: { gatewayDrainMs: 60_000 } }
  const leaving = await startTestGateway({ ...config, gatewayId: 'gw-1' })
  // It plans only when it is asked to: whatever is planned before is the other one's.
  const staying = await startTestGateway({ ...config, gatewayId: 'gw-2', rebalance: { enabled: false } })
  let plans = 0
  leaving.operator.onEvent(({ type }) => {
    if (type === 'plan') plans++
  })
  await startEcho({ redis: redis.url }, 'a')
  for (const gateway of [leaving, staying]) await linked(gateway, 'a')
  for (const { wsUrl } of [leaving, staying]) await connect(wsUrl, 30)
  await expect.poll(() => staying.operator.node('a').sessions, { timeout: 5_000 }).toBe(60)

  void leaving.leave()
  expect(() => leaving.operator.rebalance()).toThrowError(expect.objectContaining({ code: 'DRAINING' }))
  await startEcho({ redis: redis.url }, 'b')
  for (const gateway of [leaving, staying]) await linked(gateway, 'a', 'b')
  // A node that comes is planned for after 100 ms.
  await delay(500)
  expect(plans).toBe(0)

  staying.operator.rebalance()
  await expect
    .poll(() => leaving.operator.nodes().map(({ sessionsHere }) => sessionsHere > 10), { timeout: 10_000 })
    .toEqual([true, true])
  expect(plans).toBe(0)
})
