import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { Socket } from 'engine.io-client'
import { type ClientOptions, connect } from 'evenkeel/client'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket, type ClientOptions as WebSocketOptions } from 'ws'
import { connectStorm, dial } from '../support/connect-storm.ts'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { NoWebSocket } from '../support/no-web-socket.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

type RateLimits = Record<string, unknown>

async function limited(rateLimits: RateLimits, more = {}): Promise<TestGateway> {
  const gateway = await startTestGateway({ rateLimits: rateLimits as never, ...more })
  await startTestNode(gateway, echo)
  return gateway
}

async function connected(gateway: TestGateway, options: WebSocketOptions = {}): Promise<WebSocket> {
  const ws = await dial(gateway, options)
  if (ws instanceof WebSocket) return ws
  throw new Error(`refused with ${ws.statusCode}`)
}

/** The status of a refusal; 101 when there is none. */
async function statusOf(gateway: TestGateway, options: WebSocketOptions = {}): Promise<number> {
  const answer = await dial(gateway, options)
  return answer instanceof WebSocket ? 101 : answer.statusCode!
}

async function ask(url: string, options: { method?: string; headers?: Record<string, string> } = {}) {
  const sent = httpRequest(url, { agent: false, ...options }).end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode, headers: response.headers, body }
}

/** Counts what comes back. */
function echoes(ws: WebSocket): { texts: string[] } {
  const seen = { texts: [] as string[] }
  ws.on('message', (data) => seen.texts.push(String(data)))
  return seen
}

/** A client of the library, and what it has got. */
function library(gateway: TestGateway, options: ClientOptions) {
  const client = connect(gateway.wsUrl, options)
  onTestFinished(() => client.close())
  const seen: unknown[] = []
  client.on('message', (data) => void seen.push(data))
  return { client, seen }
}

const numbered = (count: number) => Array.from({ length: count }, (_, n) => String(n))

test('an address has so many connections at once, and others have theirs', { timeout: 20_000 }, async () => {
  const gateway = await limited({ perIp: { connections: 3 } })
  const from = (localAddress: string) => ({ localAddress })
  const [first] = await Promise.all([1, 2, 3].map(() => connected(gateway, from('127.0.0.2'))))
  const refused = (await dial(gateway, from('127.0.0.2'))) as IncomingMessage
  expect([refused.statusCode, refused.headers['content-type']]).toEqual([429, 'application/problem+json'])
  expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(1)
  expect(await statusOf(gateway, from('127.0.0.3'))).toBe(101)
  // What is refused is a connection too, while it is open; beyond twice as many there is not even an answer.
  first!.close()
  await once(first!, 'close')
  await expect.poll(() => statusOf(gateway, from('127.0.0.2'))).toBe(101)
  expect(await statusOf(gateway, from('127.0.0.2'))).toBe(429)
  expect(gateway.operator.counters.refused['ip-connections']).toBeGreaterThanOrEqual(2)
})

test('denied addresses are cut, exempt ones are not limited', async () => {
  const gateway = await limited({
    perIp: { newConnections: { perSecond: 0.01, burst: 1 } },
    deny: ['127.0.0.4/31'],
    exempt: ['127.0.0.8'],
  })
  const denied = new WebSocket(gateway.wsUrl, { localAddress: '127.0.0.5' })
  const [error] = await once(denied, 'error')
  expect(error.code).toBe('ECONNRESET')
  expect(gateway.operator.counters.refused.denied).toBe(1)
  expect(await statusOf(gateway, { localAddress: '127.0.0.6' })).toBe(101)
  const second = (await dial(gateway, { localAddress: '127.0.0.6' })) as IncomingMessage
  expect([second.statusCode, second.headers.ratelimit]).toEqual([429, '"ip";r=0;t=100'])
  for (const _ of [1, 2, 3]) expect(await statusOf(gateway, { localAddress: '127.0.0.8' })).toBe(101)
})

test('clients that come at once get in one after the other', async () => {
  await connectStorm({ clients: 100, perSecond: 50, burst: 50 })
})

test('who sends too fast is held back, and nothing is lost', async () => {
  const gateway = await limited({ perConnection: { messages: { perSecond: 200, burst: 20 } } })
  const ws = await connected(gateway)
  const seen = echoes(ws)
  const begun = performance.now()
  for (const text of numbered(120)) ws.send(text)
  await expect.poll(() => seen.texts.length, { timeout: 10_000 }).toBe(120)
  expect(seen.texts).toEqual(numbered(120))
  // What came with the first read is taken at once; it is made up for before more is read.
  ws.send('after')
  await expect.poll(() => seen.texts.at(-1), { timeout: 10_000 }).toBe('after')
  expect(performance.now() - begun).toBeGreaterThanOrEqual(450)
  expect(ws.readyState).toBe(WebSocket.OPEN)
})

test('who does not stop is closed with 4029, and nobody else notices', async () => {
  const gateway = await limited({
    perConnection: { messages: { perSecond: 50, burst: 20 } },
    patienceMs: 300,
  })
  const [good, abuser] = await Promise.all([connected(gateway), connected(gateway)])
  const seen = echoes(good)
  const closed = once(abuser, 'close')
  const flood = setInterval(() => {
    for (let i = 0; i < 20; i++) abuser.send('x')
  }, 10)
  onTestFinished(() => clearInterval(flood))
  let sent = 0
  const talk = setInterval(() => good.send(String(sent++)), 25)
  onTestFinished(() => clearInterval(talk))
  const [code, reason] = await closed
  expect([code, String(reason)]).toEqual([4029, 'the client sends more messages than it may'])
  clearInterval(talk)
  await expect.poll(() => seen.texts).toEqual(numbered(sent))
  expect(good.readyState).toBe(WebSocket.OPEN)
  expect(gateway.operator.counters.refused).toEqual({ 'connection-messages': 1 })
})

test('posts to a stream of events get 429, with what is left of the limit', async () => {
  const gateway = await limited({
    perIp: { requests: { perSecond: 0.1, burst: 3 } },
    perConnection: { messages: { perSecond: 0.1, burst: 2 } },
  })
  const stream = await SseStream.open(gateway.httpUrl)
  const known = await stream.session()
  const posts = []
  for (const body of ['a', 'b', 'c', 'd']) {
    const { status, headers } = await postTo(gateway.httpUrl, known, body)
    posts.push([status, headers.get('ratelimit'), headers.get('ratelimit-policy')])
  }
  const policy = '"ip";q=3;w=30'
  expect(posts).toEqual([
    [202, '"ip";r=2;t=0', policy],
    [202, '"ip";r=1;t=0', policy],
    // Its session has sent as many messages as it may …
    [429, '"ip";r=0;t=10', policy],
    // … and its address as many requests.
    [429, '"ip";r=0;t=10', policy],
  ])
  expect(await stream.next()).toMatchObject({ data: 'a' })
  expect(await stream.next()).toMatchObject({ data: 'b' })
  expect(gateway.operator.counters.refused).toEqual({ 'connection-messages': 1, 'ip-requests': 1 })
})

test('an EventSource is sent away by a stream, since a status would end it; others get the status', async () => {
  const gateway = await limited({ gateway: { newConnections: { perSecond: 0.5, burst: 1 } } })
  await SseStream.open(gateway.httpUrl)
  const events = await ask(`${gateway.httpUrl}/sse`, { headers: { accept: 'text/event-stream' } })
  expect([events.status, events.headers['content-type']]).toEqual([200, 'text/event-stream'])
  expect(events.body).toMatch(/^retry: \d+\n\n$/)
  expect(await ask(`${gateway.httpUrl}/sse`)).toMatchObject({
    status: 503,
    body: expect.stringContaining('OVERLOADED'),
  })
  // Who asks whether the gateway is there is never refused.
  expect((await ask(`${gateway.httpUrl}/readyz`)).status).toBe(200)
})

test.each([['websocket'], ['polling']])(
  '%s of Engine.IO: closed when it does not stop',
  async (transport) => {
    const gateway = await limited({
      perConnection: { messages: { perSecond: 100, burst: 10 } },
      patienceMs: 600,
    })
    const socket = new Socket(gateway.httpUrl, { transports: [transport] })
    onTestFinished(() => void socket.close())
    await new Promise<void>((resolve) => socket.on('open', resolve))
    const seen: string[] = []
    socket.on('message', (data) => void seen.push(String(data)))
    const begun = performance.now()
    for (const text of numbered(40)) socket.send(text)
    await expect.poll(() => seen).toEqual(numbered(40))
    socket.send('after')
    await expect.poll(() => seen.at(-1)).toBe('after')
    // A client that polls cannot be held back.
    if (transport === 'websocket') expect(performance.now() - begun).toBeGreaterThanOrEqual(290)
    const closed = new Promise((resolve) => socket.on('close', resolve))
    const flood = setInterval(() => {
      for (let i = 0; i < 20; i++) socket.send('x')
    }, 10)
    onTestFinished(() => clearInterval(flood))
    await closed
    expect(gateway.operator.counters.refused).toEqual({ 'connection-messages': 1 })
  },
)

const transports: [string, ClientOptions][] = [
  ['WebSocket', {}],
  ['HTTP', { WebSocket: NoWebSocket }],
]

test('evenkeel.v1: held back, and the session goes on', async () => {
  const gateway = await limited({ perConnection: { messages: { perSecond: 100, burst: 10 } } })
  const { client, seen } = library(gateway, {})
  const begun = performance.now()
  await Promise.all(numbered(70).map((text) => client.send(text)))
  await client.send('after')
  expect(performance.now() - begun).toBeGreaterThanOrEqual(550)
  await expect.poll(() => seen).toEqual([...numbered(70), 'after'])
  expect(client.state).toBe('open')
})

test.each(transports)('evenkeel.v1 over %s: acknowledgements are free', async (_, options) => {
  // All messages and a hello; nothing follows.
  const gateway = await limited({
    perConnection: { messages: { perSecond: 0.01, burst: 41 } },
    patienceMs: 100,
  })
  const { client, seen } = library(gateway, options)
  for (const [index, text] of numbered(40).entries()) {
    await client.send(text)
    // Each echo is acknowledged by itself.
    await expect.poll(() => seen.length, { interval: 5 }).toBe(index + 1)
  }
  expect([client.state, gateway.operator.counters.refused]).toEqual(['open', {}])
})

test('the route as a whole is held back, and nobody is closed for it', async () => {
  const gateway = await limited({ perRoute: { messages: { perSecond: 100, burst: 10 } }, patienceMs: 200 })
  const clients = await Promise.all([connected(gateway), connected(gateway)])
  const seen = clients.map(echoes)
  for (const ws of clients) for (const text of numbered(60)) ws.send(text)
  await expect.poll(() => seen.map(({ texts }) => texts.length), { timeout: 10_000 }).toEqual([60, 60])
  expect(clients.map(({ readyState }) => readyState)).toEqual([WebSocket.OPEN, WebSocket.OPEN])
})
