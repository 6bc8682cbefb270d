import { once } from 'node:events'
import { createNode, type EvenkeelNode } from 'evenkeel/sdk'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { fuzzHttp2 } from '../support/http2-fuzz.ts'
import {
  echo,
  launchTestGateway,
  startTestGateway,
  startTestNode,
  type TestGateway,
} from '../support/in-process.ts'
import { createRandom, testSeed } from '../support/random.ts'
import {
  Http2Client,
  handshake,
  headOf,
  literal,
  localCertificate,
  RawHttp2,
  tlsListener,
} from '../support/tls.ts'

async function startSecure(overrides: Parameters<typeof startTestGateway>[0] = {}): Promise<TestGateway> {
  return startTestGateway({ public: tlsListener([localCertificate()]) as never, ...overrides })
}

/** For tests that leave it as it was, with a node that echoes. */
let shared: TestGateway
let node: EvenkeelNode
beforeAll(async () => {
  shared = await launchTestGateway({ public: tlsListener([localCertificate()]) as never })
  node = createNode({ id: 'a', gateways: [shared.linkUrl], drainOnSigterm: false, logger: quiet })
  node.serve({
    message(session, data) {
      seen.push(data)
      session.send(data)
    },
  })
  await node.start()
})
afterAll(async () => {
  await node.stop()
  await shared.close()
})
const quiet = { info() {}, warn() {}, error() {} }
const seen: unknown[] = []

async function openSession(client: Http2Client) {
  const stream = await client.events('/sse')
  const { session, token } = JSON.parse((await stream.next('session')).data) as Record<string, string>
  const headers = { ':method': 'POST', ':path': `/sse/${session}`, authorization: `Bearer ${token}` }
  return { stream, session, token, headers }
}

test('sessions over one HTTP/2 connection: events down, posts up', async () => {
  const gateway = await startSecure()
  const metas: Record<string, unknown>[] = []
  await startTestNode(gateway, { ...echo, open: ({ meta }) => void metas.push(meta as never) })
  const client = new Http2Client(gateway.publicPort)
  const health = await client.request({ ':path': '/healthz' })
  expect(health).toMatchObject({ status: 200, body: '{"status":"ok"}' })

  const all = await Promise.all(Array.from({ length: 10 }, () => openSession(client)))
  expect(all[0]!.stream.headers).toMatchObject({ 'content-type': 'text/event-stream' })
  for (const [index, { headers }] of all.entries())
    expect(await client.request(headers, `message ${index}`)).toMatchObject({ status: 202, body: '' })
  for (const [index, { stream }] of all.entries()) expect((await stream.next()).data).toBe(`message ${index}`)
  expect(metas[0]).toMatchObject({ transport: 'sse', address: '127.0.0.1', path: '/sse' })
  const names = Object.keys((metas[0] as { headers: object }).headers)
  expect(names).toContain('host')
  expect(names.filter((name) => name.startsWith(':'))).toEqual([])
})

test('errors are said as over HTTP/1.1', async () => {
  const gateway = await startSecure()
  const client = new Http2Client(gateway.publicPort)
  expect((await client.request({ ':path': '/nowhere' })).status).toBe(404)
  expect((await client.request({ ':path': '/ws' })).status).toBe(426)
  expect((await client.request({ ':path': '/sse' })).status).toBe(503)
  const two = await client.request({ ':path': '/healthz', ':authority': 'localhost', host: 'other' })
  expect(two.status).toBe(400)
  expect(JSON.parse(two.body)).toMatchObject({
    code: 'BAD_REQUEST',
    detail: 'exactly one Host header is required',
  })
  const foreign = await client.request({ ':path': '/sse', origin: 'https://evil.example' })
  expect(foreign.status).toBe(403)
  const many = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [`x-${i}`, '1']))
  expect((await client.request({ ':path': '/healthz', ...many })).status).toBe(431)
  const head = await client.request({ ':path': '/healthz', ':method': 'HEAD' })
  expect(head).toMatchObject({ status: 405, body: '' })
})

test('a body without a length is read, and one that is broken off is no message', async () => {
  const gateway = shared
  const client = new Http2Client(gateway.publicPort)
  const { headers } = await openSession(client)
  const raw = await RawHttp2.connect(gateway.publicPort)
  // Reset by CANCEL, and by a code that says that there was no error.
  for (const [id, code] of [
    [1, 8],
    [3, 0],
  ] as const) {
    raw.headers(id, headers, { endStream: false })
    raw.data(id, 'half of')
    raw.reset(id, code)
  }
  await raw.answered()
  const whole = client.session.request(headers, { endStream: false })
  whole.write('first ')
  whole.end('second')
  expect(await headOf(whole)).toMatchObject({ ':status': 202 })
  expect(seen.filter((data) => data === 'half of' || data === 'first second')).toEqual(['first second'])
})

test('a message that is too large is answered, and the connection goes on', async () => {
  const gateway = await startSecure({ limits: { messageBytes: 1_000 } as never })
  await startTestNode(gateway, echo)
  const client = new Http2Client(gateway.publicPort)
  const { headers, stream } = await openSession(client)
  const big = client.session.request(headers, { endStream: false })
  big.on('error', () => {})
  big.write(Buffer.alloc(100_000))
  expect(await headOf(big)).toMatchObject({ ':status': 413 })
  expect((await client.request(headers, 'small')).status).toBe(202)
  expect((await stream.next()).data).toBe('small')
})

test('WebSockets and HTTP/1.1 on the same port', async () => {
  const gateway = shared
  const ws = new WebSocket(`wss://localhost:${gateway.publicPort}/ws`, { rejectUnauthorized: false })
  await once(ws, 'open')
  ws.send('hello')
  const [data] = await once(ws, 'message')
  expect(String(data)).toBe('hello')
  ws.close()
  const socket = await handshake(gateway.publicPort, 'localhost', { ALPNProtocols: ['http/1.1'] })
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  let answer = ''
  for await (const chunk of socket) answer += chunk
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
})

test('a request that does not come in time costs the connection behind TLS as well', async () => {
  const gateway = await startSecure({ limits: { handshakeMs: 300 } as never })
  const socket = await handshake(gateway.publicPort, 'localhost')
  socket.write('GET /healthz HTTP/1.1\r\n')
  let answer = ''
  for await (const chunk of socket) answer += chunk
  expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /)
})

test('a client that does not read is held back by its window, within what a client may have waiting', async () => {
  const gateway = await startSecure({ limits: { clientBufferBytes: 300_000 } as never })
  let sent = 0
  let paused = false
  await startTestNode(gateway, {
    async message(session) {
      for (; sent < 4_000; sent++) {
        if (session.send('x'.repeat(1_000))) continue
        paused = true
        await session.drained()
      }
    },
  })
  const client = new Http2Client(gateway.publicPort, { initialWindowSize: 20_000 })
  const { stream, headers } = await openSession(client)
  stream.stream.pause()
  const posted = client.request(headers, 'go')
  await expect.poll(() => paused, { timeout: 10_000 }).toBe(true)
  // Other streams of the connection are not held up.
  expect((await client.request({ ':path': '/healthz' })).status).toBe(200)
  expect(sent).toBeLessThan(1_500)
  stream.stream.resume()
  expect((await posted).status).toBe(202)
  await expect.poll(() => stream.events.length, { timeout: 10_000 }).toBe(4_001)
})

test('abandoning requests again and again costs the connection, and nobody else', async () => {
  const gateway = await startSecure({ limits: { http2Resets: 40 } as never })
  await startTestNode(gateway, echo)
  const good = new Http2Client(gateway.publicPort)
  const { stream, headers } = await openSession(good)
  const bad = new Http2Client(gateway.publicPort)
  await bad.request({ ':path': '/healthz' })
  // What a page does when it is left.
  const few = await Promise.all(Array.from({ length: 30 }, () => bad.events('/sse')))
  for (const one of few) one.stream.close(8)
  await Promise.all(few.map((one) => one.end()))
  expect((await bad.request({ ':path': '/healthz' })).status).toBe(200)
  while (!bad.session.closed && !bad.session.destroyed) {
    bad.stream({ ':path': '/sse' }).close(8)
    await new Promise(setImmediate)
  }
  await expect.poll(() => bad.goAways).toEqual([11])
  expect(await (await fetch(`${gateway.internalUrl}/metrics`)).text()).toContain(
    'evenkeel_http2_abuse_total{cause="resets"} 1',
  )
  expect((await good.request(headers, 'still here')).status).toBe(202)
  expect((await stream.next()).data).toBe('still here')
})

test('so does a flood of pings', async () => {
  const gateway = shared
  const bad = new Http2Client(gateway.publicPort)
  await bad.request({ ':path': '/healthz' })
  while (!bad.session.closed && !bad.session.destroyed) {
    for (let i = 0; i < 10; i++) bad.session.ping(() => {})
    await new Promise(setImmediate)
  }
  await expect.poll(() => bad.goAways).toEqual([11])
})

test('streams beyond those that are allowed are refused, and headers beyond their size end the stream', async () => {
  const gateway = await startSecure({ limits: { http2Streams: 5 } as never })
  await startTestNode(gateway, echo)
  const client = new Http2Client(gateway.publicPort)
  await client.request({ ':path': '/healthz' })
  expect(client.session.remoteSettings.maxConcurrentStreams).toBe(5)
  const huge = client.stream({ ':path': '/healthz', 'x-huge': 'x'.repeat(20_000) })
  await expect(headOf(huge).then((head) => head[':status'])).rejects.toThrow('no answer')
  expect((await client.request({ ':path': '/healthz' })).status).toBe(200)
})

test('a connection on which nothing is asked is closed; one with streams stays', async () => {
  const gateway = await startSecure({ limits: { http2IdleMs: 300 } as never })
  await startTestNode(gateway, echo)
  const idle = new Http2Client(gateway.publicPort)
  const busy = new Http2Client(gateway.publicPort)
  const { headers, stream } = await openSession(busy)
  await idle.request({ ':path': '/healthz' })
  await once(idle.session, 'close')
  expect(idle.goAways).toEqual([0])
  expect((await busy.request(headers, 'here')).status).toBe(202)
  expect((await stream.next()).data).toBe('here')
})

test('a gateway that leaves says so: streams are ended spread over a while, with a retry', async () => {
  const gateway = await startSecure({ limits: { gatewayDrainMs: 400 } as never })
  await startTestNode(gateway, echo)
  const client = new Http2Client(gateway.publicPort)
  const { stream } = await openSession(client)
  const left = gateway.leave()
  await expect.poll(() => client.goAways).toEqual([0])
  await stream.end()
  await left
  await expect.poll(() => client.session.destroyed).toBe(true)
})

test('a flood of CONTINUATION frames ends the connection, without growing memory', async () => {
  const gateway = shared
  const raw = await RawHttp2.connect(gateway.publicPort)
  const before = process.memoryUsage().rss
  let closed = false
  raw.socket.on('close', () => (closed = true))
  raw.socket.resume()
  raw.headers(1, { ':path': '/healthz' }, { endHeaders: false })
  const block = literal('x-big', 'x'.repeat(16_000))
  for (let i = 0; i < 2_000 && !closed; i++) {
    raw.frame(9, 0, 1, block)
    if (raw.socket.writableNeedDrain)
      await Promise.race([once(raw.socket, 'drain'), once(raw.socket, 'close')])
    await new Promise(setImmediate)
  }
  expect(closed).toBe(true)
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
})

test('a stream that is over and not read is cut, though others of its connection are read', async () => {
  const gateway = await startSecure({ limits: { clientStallMs: 300 } as never })
  await startTestNode(gateway, {
    message(session, data) {
      session.send('x'.repeat(100_000))
      if (data === 'bye') session.close(4000, 'bye')
    },
  })
  const client = new Http2Client(gateway.publicPort, { initialWindowSize: 20_000 })
  const stalled = await openSession(client)
  stalled.stream.stream.pause()
  const busy = await openSession(client)
  await client.request(stalled.headers, 'bye')
  const timer = setInterval(() => void client.request(busy.headers, 'more').catch(() => {}), 50)
  onTestFinished(() => clearInterval(timer))
  await stalled.stream.end()
  expect(stalled.stream.stream.rstCode).toBe(8)
  expect((await client.request({ ':path': '/healthz' })).status).toBe(200)
})

test('a connection that is silent and does not answer a PING is dropped, though it has a stream', async () => {
  const gateway = await startSecure({ limits: { idlePingMs: 300, idlePongMs: 300 } as never })
  await startTestNode(gateway, echo)
  const raw = await RawHttp2.connect(gateway.publicPort)
  raw.headers(1, { ':path': '/sse' })
  const gone = once(raw.socket, 'close')
  const client = new Http2Client(gateway.publicPort)
  const { headers } = await openSession(client)
  raw.socket.resume()
  await gone
  expect((await client.request(headers, 'here')).status).toBe(202)
})

test('what is agreed on by ALPN', async () => {
  const agreed = async (ALPNProtocols: string[]) =>
    (await handshake(shared.publicPort, 'localhost', { ALPNProtocols })).alpnProtocol
  expect(await agreed(['h2', 'http/1.1'])).toBe('h2')
  expect(await agreed(['http/1.1', 'h2'])).toBe('h2')
  expect(await agreed(['http/1.1'])).toBe('http/1.1')
  await expect(agreed(['spdy/3'])).rejects.toThrow()
})

test('frames that nobody would send are no trouble to anybody else', async () => {
  const random = createRandom(testSeed('HTTP/2 frames'))
  for (let i = 0; i < 5; i++)
    await Promise.all(Array.from({ length: 10 }, () => fuzzHttp2(shared.publicPort, random, 40)))
  const client = new Http2Client(shared.publicPort)
  const { headers, stream } = await openSession(client)
  expect((await client.request(headers, 'after all that')).status).toBe(202)
  expect((await stream.next()).data).toBe('after all that')
})
