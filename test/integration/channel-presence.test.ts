import { once } from 'node:events'
import { createNode } from 'evenkeel/sdk'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ChannelView } from '../../src/gateway/operator.ts'
import { call, startAdminServer } from '../support/admin-server.ts'
import { finish, killChildren, run, start } from '../support/cli.ts'
import { type GatewayChild, startGatewayChild } from '../support/gateway-child.ts'
import { RedisServer } from '../support/redis.ts'

async function channelAt({ internalPort }: GatewayChild, name: string): Promise<ChannelView> {
  const url = `http://127.0.0.1:${internalPort}/api/v1/channels/${encodeURIComponent(name)}`
  return (await (await fetch(url)).json()) as ChannelView
}

async function connect({ wsUrl }: GatewayChild, count: number): Promise<WebSocket[]> {
  const sockets = Array.from({ length: count }, () => new WebSocket(wsUrl))
  onTestFinished(() => {
    for (const socket of sockets) socket.terminate()
  })
  await Promise.all(sockets.map((socket) => once(socket, 'open')))
  return sockets
}

test('every gateway knows who is in a channel, and whoever is killed is not counted from then on', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const config = {
    redis: redis.url,
    channels: { history: [{ match: 'room/*' }] },
    limits: { leaseMs: 1_500, leaseRefreshMs: 500 },
  }
  const [one, other] = await Promise.all(
    ['gw-1', 'gw-2'].map((gatewayId) => startGatewayChild({ ...config, gatewayId })),
  )
  const name = 'room/7 ü'
  const node = createNode({
    id: 'a',
    redis: redis.url,
    drainOnSigterm: false,
    logger: { info() {}, warn() {}, error() {} },
  })
  node.serve({ open: (session) => session.join(name) })
  onTestFinished(() => node.stop())
  await node.start()
  for (const { admin } of [one!, other!])
    await expect.poll(async () => (await admin.nodes()).length, { timeout: 20_000 }).toBe(1)
  await connect(one!, 3)
  const [first] = await connect(other!, 2)

  const together = { members: 5, gateways: { 'gw-1': 3, 'gw-2': 2 }, unanswered: [] }
  for (const gateway of [one!, other!])
    await expect
      .poll(() => channelAt(gateway, name), { timeout: 20_000 })
      .toEqual({ channel: name, ...together, history: null })
  node.publish(name, 'x')
  await expect.poll(async () => (await channelAt(other!, name)).history?.offset).toBe(1)
  expect((await channelAt(one!, name)).history).toEqual((await channelAt(other!, name)).history)
  first!.terminate()
  await expect.poll(async () => (await channelAt(one!, name)).gateways).toEqual({ 'gw-1': 3, 'gw-2': 1 })
  const empty = { channel: 'empty', members: 0, gateways: { 'gw-1': 0, 'gw-2': 0 }, unanswered: [] }
  expect(await channelAt(one!, 'empty')).toEqual({ ...empty, history: null })

  other!.signal('SIGKILL')
  await other!.exited
  expect(await channelAt(one!, name)).toMatchObject({
    members: 3,
    gateways: { 'gw-1': 3 },
    unanswered: ['gw-2'],
  })
  await expect.poll(async () => (await channelAt(one!, name)).unanswered, { timeout: 20_000 }).toEqual([])
  await redis.kill()
  // What this gateway has seen it knows without Redis.
  expect(await channelAt(one!, name)).toMatchObject({ members: 3, history: { offset: 1 } })
})

describe('asking one gateway', () => {
  afterEach(() => killChildren())

  test('a peer is answered for this gateway alone; bad names are refused', async () => {
    await using admin = await startAdminServer()
    const whole = await call(admin.port, 'GET', '/api/v1/channels/room%3A7')
    expect(whole.json).toEqual({
      channel: 'room:7',
      members: 6,
      gateways: { 'gw-test': 6 },
      unanswered: [],
      history: { epoch: 'e1', offset: 42 },
    })
    const headers = { host: `127.0.0.1:${admin.port}`, 'x-evenkeel-scope': 'local' }
    const part = await call(admin.port, 'GET', '/api/v1/channels/room%3A7', { headers })
    expect(part.json).toEqual({ channel: 'room:7', members: 6 })
    for (const name of ['%24own', 'a%0Ab', 'x'.repeat(256)]) {
      const refused = await call(admin.port, 'GET', `/api/v1/channels/${name}`)
      expect([refused.status, refused.json.code]).toEqual([400, 'BAD_REQUEST'])
    }
  })

  test('evenkeel channel prints it, or the JSON of the API', async () => {
    await using admin = await startAdminServer()
    const env = { EVENKEEL_ADMIN_URL: admin.url }
    const table = await run(['channel', 'room:7'], env)
    expect(table).toMatchObject({ code: 0, stderr: '' })
    expect(table.stdout).toMatch(/^room:7: 6 members, history at e1-42\nGATEWAY +MEMBERS\ngw-test +6\n$/)
    expect((await run(['channel', 'quiet'], env)).stdout).toMatch(/^quiet: 5 members, no history\n/)
    const json = await run(['channel', 'room:7', '--json'], env)
    expect(JSON.parse(json.stdout)).toMatchObject({ members: 6, history: { epoch: 'e1', offset: 42 } })
    const refused = await finish(start(['channel', '$own'], env))
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('a channel name has')])
  })
})
