import { type ClientOptions, connect, type EvenkeelClient } from 'evenkeel/client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { encodeTunnelFrame } from '../../src/protocol/tunnel-frames.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'
import { NoWebSocket } from '../support/no-web-socket.ts'
import { RedisServer } from '../support/redis.ts'
import { RoundRobin } from '../support/round-robin.ts'
import { until } from '../support/until.ts'

/** Clients whose WebSockets do not get through, with real gateways and nodes (PROTOCOL.md §2.3). */

function listen(url: string, options: ClientOptions = {}) {
  const client = connect(url, { WebSocket: NoWebSocket, random: () => 0, ...options })
  onTestFinished(() => client.close())
  const looks = new Set<() => void>()
  const heard: unknown[] = []
  const sessions: unknown[] = []
  const note = (list: unknown[], value: unknown) => {
    list.push(value)
    for (const look of [...looks]) look()
  }
  client.on('message', (data) => note(heard, data))
  client.on('channel', ({ channel, data }) => note(heard, [channel, data]))
  client.on('verdict', ({ channel, verdict }) => note(heard, [channel, verdict]))
  client.on('session', ({ recovered }) => note(sessions, recovered))
  return {
    client,
    heard,
    sessions,
    until: (what: string, condition: () => boolean) => until(condition, looks, { what }),
  }
}

const opened = (client: EvenkeelClient) =>
  new Promise<void>((resolve) => {
    const off = client.on('session', () => {
      off()
      resolve()
    })
  })

const texts = ['', 'a\nb', 'a\r\nb\rc', '\0', '\u2028\u2029', '☂ 𝄞', 'data: x\n\nevent: y', '"\\', ' lead']

test('messages of any content go both ways and are acknowledged', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const { client, heard, until } = listen(gateway.wsUrl)
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
  await Promise.all([...texts, bytes, new Uint8Array()].map((data) => client.send(data)))
  await until('all echoes', () => heard.length === texts.length + 2)
  expect(heard.slice(0, texts.length)).toEqual(texts)
  expect(heard.slice(texts.length)).toEqual([bytes, new Uint8Array()])
  const big = 'é'.repeat(500_000)
  await client.send(big)
  await until('a big one', () => heard.at(-1) === big)
})

test('channels, and what the application says at the end', async () => {
  const history = [{ match: 'room', size: 10, ttlMs: 60_000 }]
  const gateway = await startTestGateway({ channels: { history } })
  const node = await startTestNode(gateway, {
    open: (session) => session.join('room'),
    message(session, data) {
      if (data === 'end') session.close(3210, 'that was all')
      else node.publish('room', data)
    },
  })
  const { client, heard, until } = listen(gateway.wsUrl)
  await client.send('a\r\nb')
  await client.send(new Uint8Array([0, 10, 13]))
  await until('what was published', () => heard.length === 3)
  expect(heard).toEqual([
    ['room', 'joined'],
    ['room', 'a\r\nb'],
    ['room', new Uint8Array([0, 10, 13])],
  ])
  const end = new Promise((resolve) => client.on('close', resolve))
  void client.send('end')
  expect(await end).toEqual({ code: 3210, reason: 'that was all', kind: 'ended' })
})

test('a client that closes has left at once', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const { client } = listen(gateway.wsUrl)
  await client.send('hello')
  expect(gateway.operator.sessions().sessions).toHaveLength(1)
  client.close()
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
})

test('a node that does not keep up slows the client down, and nothing is lost', async () => {
  const gateway = await startTestGateway({ limits: { inboxMessages: 4 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  const handled: unknown[] = []
  await startTestNode(gateway, {
    async message(_session, data) {
      await held
      handled.push(data)
    },
  })
  const { client } = listen(gateway.wsUrl)
  await opened(client)
  const sends = Array.from({ length: 100 }, (_, index) => client.send(String(index)))
  release()
  await Promise.all(sends)
  expect(handled).toEqual(Array.from({ length: 100 }, (_, index) => String(index)))
})

test('frames that its node has no room for are answered when there is room', async () => {
  const gateway = await startTestGateway({ limits: { inboxMessages: 4 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => (release = resolve))
  await startTestNode(gateway, { message: () => held })
  const stream = await fetch(`${gateway.httpUrl}/sse/v1`, { method: 'POST', body: 'h{}' })
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('data: "w')) text += (await reader.read()).value
  const id = /event: open\ndata: (.*)\n/.exec(text)![1]
  const post = (...frames: string[]) =>
    fetch(`${gateway.httpUrl}/sse/v1/${id}`, {
      method: 'POST',
      body: new Blob(frames.flatMap(encodeTunnelFrame)),
    })
  expect((await post('m1', 'm2')).status).toBe(204)
  let answered = false
  const full = post('m3', 'm4', 'm5').then(({ status }) => {
    answered = true
    return status
  })
  await expect.poll(() => gateway.operator.sessions().sessions[0]!.uncommitted).toBe(5)
  // One request at a time, and this one waits.
  expect([(await post('m6')).status, answered]).toEqual([409, false])
  release()
  expect(await full).toBe(204)
  expect((await post('m6')).status).toBe(204)
  await reader.cancel()
})

describe('two gateways behind a balancer without sticky sessions', () => {
  async function stage(tokens: object = {}) {
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const gateways = [
      await startTestGateway({ redis: redis.url }, tokens),
      await startTestGateway({ redis: redis.url }, tokens),
    ] as const
    await startTestNode(gateways[0], echo, { gateways: gateways.map(({ linkUrl }) => linkUrl) })
    await expect
      .poll(() =>
        gateways.every(({ operator }) => operator.gateways().length === 2 && operator.nodes().length === 1),
      )
      .toBe(true)
    const balancer = await RoundRobin.listen(gateways.map(({ publicPort }) => publicPort))
    return { gateways, balancer }
  }

  test('requests find the gateway that has the stream; cut connections lose and double nothing', async () => {
    const { balancer } = await stage({ adminToken: 'secret-of-the-gateways' })
    const { client, heard, sessions, until } = listen(balancer.wsUrl)
    const count = 150
    for (let i = 0; i < count; i++) {
      void client.send(String(i))
      if (i % 50 === 25) {
        await until('some echoes', () => heard.length > i - 25)
        balancer.cut()
      }
    }
    await until('all echoes', () => heard.length >= count)
    expect(heard).toEqual(Array.from({ length: count }, (_, index) => String(index)))
    expect(sessions.slice(1)).toEqual(sessions.slice(1).map(() => true))
    expect(sessions.length).toBeGreaterThan(1)
    expect(Math.min(...balancer.counts)).toBeGreaterThan(0)
  })

  test('a gateway that leaves sends its clients to the other one', async () => {
    const { gateways, balancer } = await stage()
    const { client, heard, sessions, until } = listen(balancer.wsUrl)
    await client.send('before')
    const [here] = gateways.filter(({ operator }) => operator.sessions().sessions.length > 0)
    const left = here!.leave()
    await until('the resume', () => sessions.length === 2)
    await client.send('after')
    await left
    await until('all echoes', () => heard.length === 2)
    expect([heard, sessions]).toEqual([
      ['before', 'after'],
      [null, true],
    ])
  })
})

test('strangers are told so', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const post = (path: string, init: RequestInit = {}) =>
    fetch(`${gateway.httpUrl}${path}`, { method: 'POST', ...init })
  expect((await post('/sse/v1/none', { body: 'x' })).status).toBe(404)
  expect((await fetch(`${gateway.httpUrl}/sse/v1`)).status).toBe(405)
  expect((await post('/sse/v1', { body: 'h{}', headers: { origin: 'http://evil.example' } })).status).toBe(
    403,
  )
  const bad = await post('/sse/v1', { body: 'mhi' })
  expect(await bad.text()).toContain(
    'event: close\ndata: {"code":4100,"reason":"the first frame must be hello"}',
  )
})
