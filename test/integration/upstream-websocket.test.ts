import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { acceptHandshake, refusal, refusals, refuse } from '../support/upstream-refusals.ts'
import {
  connectWs,
  noSessions,
  settledValue,
  startRawUpstream,
  startUpstreamGateway,
  startWsUpstream,
} from '../support/upstreams.ts'

test('messages travel both ways, unchanged and in order', async () => {
  const upstream = await startWsUpstream((ws) =>
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })),
  )
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  const sent = ['', 'a', 'grüße 🌊', Buffer.from([0, 255]), 'x'.repeat(70_000), Buffer.alloc(200_000, 7)]
  const received: (string | Buffer)[] = []
  ws.on('message', (data, isBinary) => received.push(isBinary ? (data as Buffer) : String(data)))
  for (const message of sent) ws.send(message)
  while (received.length < sent.length) await once(ws, 'message')
  expect(received).toEqual(sent)
  const [session] = gateway.operator.sessions().sessions
  expect(session).toMatchObject({
    node: upstream.id,
    transport: 'websocket',
    state: 'active',
    uncommitted: 0,
  })
  expect(gateway.operator.nodes()).toMatchObject([
    { id: upstream.id, pool: 'legacy', url: upstream.url, sessions: 1, state: 'active', pid: null },
  ])
})

test('what the upstream sends at once, before the client could speak, arrives', async () => {
  const upstream = await startWsUpstream((ws) => {
    ws.send('welcome')
    ws.send('again')
  })
  const gateway = await startUpstreamGateway([upstream])
  const ws = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}/`)
  onTestFinished(() => ws.terminate())
  const received: string[] = []
  ws.on('message', (data) => received.push(String(data)))
  while (received.length < 2) await once(ws, 'message')
  expect(received).toEqual(['welcome', 'again'])
})

test('the handshake goes along: path, query, headers, cookies; forged and hop-by-hop ones do not', async () => {
  const requests: IncomingMessage[] = []
  const upstream = await startWsUpstream((_ws, request) => requests.push(request))
  const gateway = await startUpstreamGateway([upstream])
  await connectWs(gateway, '/chat/room?x=1&y=%20', [], {
    headers: {
      cookie: 'a=b',
      authorization: 'Bearer t',
      'x-custom': 'c',
      'x-forwarded-for': '6.6.6.6',
      forwarded: 'for=6.6.6.6',
      'x-real-ip': '6.6.6.6',
    },
  })
  const [request] = requests
  expect(request!.url).toBe('/chat/room?x=1&y=%20')
  const host = `127.0.0.1:${gateway.publicPort}`
  expect(request!.headers).toMatchObject({
    host,
    cookie: 'a=b',
    authorization: 'Bearer t',
    'x-custom': 'c',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': host,
    'x-forwarded-proto': 'http',
    forwarded: `for=127.0.0.1;host="${host}";proto=http`,
  })
  expect(request!.headers).not.toHaveProperty('x-real-ip')
  expect(request!.headers).not.toHaveProperty('sec-websocket-extensions')
})

test('the subprotocol is the one that the upstream chose, its cookies reach the client', async () => {
  const upstream = await startWsUpstream(
    () => {},
    (offered) => (offered.has('b') ? 'b' : false),
  )
  upstream.wss.on('headers', (headers) => headers.push('Set-Cookie: one=1', 'Set-Cookie: two=2'))
  const gateway = await startUpstreamGateway([upstream])
  const ws = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}/`, ['a', 'b'])
  onTestFinished(() => ws.terminate())
  const open = once(ws, 'open')
  const [response] = (await once(ws, 'upgrade')) as [IncomingMessage]
  await open
  expect(ws.protocol).toBe('b')
  expect(response.headers['set-cookie']).toEqual(['one=1', 'two=2'])
  const none = await connectWs(gateway, '/', ['a'])
    .then((one) => one.protocol)
    .catch((error) => error.message)
  // A client of `ws` takes the lack of a subprotocol that it offered for an error; what matters is that none was made up.
  expect(none).toBe('Server sent no subprotocol')
})

test('close codes and reasons pass both ways', async () => {
  const closes: unknown[] = []
  const upstream = await startWsUpstream((ws) => {
    ws.on('message', (data) => ws.close(4321, `as you wish: ${data}`))
    ws.on('close', (code, reason) => closes.push([code, reason.toString()]))
  })
  const gateway = await startUpstreamGateway([upstream])
  const first = await connectWs(gateway)
  first.send('go')
  expect((await once(first, 'close')).map(String)).toEqual(['4321', 'as you wish: go'])
  for (const end of [
    (ws: WebSocket) => ws.close(4100, 'mine'),
    (ws: WebSocket) => ws.close(),
    (ws: WebSocket) => ws.terminate(),
  ]) {
    const ws = await connectWs(gateway)
    const [serverSide] = upstream.wss.clients
    const closed = once(serverSide!, 'close')
    end(ws)
    await closed
  }
  expect(closes).toEqual([
    [4321, 'as you wish: go'],
    [4100, 'mine'],
    [1005, ''],
    [1006, ''],
  ])
  await noSessions(gateway)
})

test('messages of a client that vanishes right after them still arrive', async () => {
  const received: string[] = []
  const upstream = await startWsUpstream((ws) => ws.on('message', (data) => received.push(String(data))))
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  const [serverSide] = upstream.wss.clients
  const closed = once(serverSide!, 'close')
  for (let i = 0; i < 100; i++) ws.send(String(i))
  ws.send('last', () => ws.terminate())
  await closed
  expect(received).toHaveLength(101)
})

test('an upstream that breaks closes the client with 1014', async () => {
  const upstream = await startWsUpstream((ws) => ws.on('message', () => ws.terminate()))
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  ws.send('die')
  expect((await once(ws, 'close'))[0]).toBe(1014)
})

test('a client that does not read pauses its upstream; memory is bounded', async () => {
  const total = 64
  const upstream = await startWsUpstream((ws) => {
    const chunk = Buffer.alloc(512 * 1024, 1)
    for (let i = 0; i < total; i++) ws.send(chunk)
  })
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  ws.pause()
  const [serverSide] = upstream.wss.clients
  // It has stopped taking when nothing has moved for a while.
  expect(await settledValue(() => serverSide!.bufferedAmount)).toBeGreaterThan(16 * 1024 * 1024)
  expect(gateway.operator.counters.backpressurePauses).toBeGreaterThan(0)
  let received = 0
  ws.on('message', () => received++)
  ws.resume()
  while (received < total) await once(ws, 'message')
})

test('an upstream that does not read pauses its client; nothing is lost', async () => {
  const upstream = await startWsUpstream((ws) => ws.pause())
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  const total = 64
  const chunk = Buffer.alloc(512 * 1024, 1)
  for (let i = 0; i < total; i++) ws.send(chunk)
  expect(await settledValue(() => ws.bufferedAmount)).toBeGreaterThan(16 * 1024 * 1024)
  const [serverSide] = upstream.wss.clients
  let received = 0
  const all = new Promise<void>((resolve) =>
    serverSide!.on('message', () => {
      if (++received === total) resolve()
    }),
  )
  serverSide!.resume()
  await all
})

test.each(Object.keys(refusals))('%s is a 502, and leaves no socket behind', async (name) => {
  await refuse(name, 20)
})

test.each([
  ['resets', 'reset'],
  ['ends without a word', 'end'],
])('an upstream that %s is a 502, and the next one is asked where there is one', async (_name, how) => {
  const broken = await startRawUpstream((socket) =>
    socket.once('data', () => (how === 'reset' ? socket.resetAndDestroy() : socket.end())),
  )
  const alone = await startUpstreamGateway([broken])
  for (let i = 0; i < 20; i++) expect((await refusal(alone)).status).toBe(502)
  const good = await startWsUpstream((ws) => ws.send('hello'))
  const both = await startUpstreamGateway([broken, good])
  const before = broken.accepted
  for (let i = 0; i < 20; i++) await connectWs(both)
  expect(good.wss.clients.size).toBe(20)
  expect(broken.accepted).toBeGreaterThan(before)
  await broken.empty()
})

test('an upstream that does not answer is a 502 once its time is over', async () => {
  const silent = await startRawUpstream((socket) => socket.resume())
  const gateway = await startUpstreamGateway([silent], { config: { limits: { upstreamDialMs: 200 } } })
  expect((await refusal(gateway)).status).toBe(502)
  await silent.empty()
})

test('an upstream that has gone without a word is noticed', async () => {
  const silent = await startRawUpstream((socket) => {
    socket.once('data', (data) => socket.write(acceptHandshake(String(data))))
    socket.resume()
  })
  const config = { limits: { idlePingMs: 2_000, idlePongMs: 1_000 } }
  const gateway = await startUpstreamGateway([silent], { config })
  const ws = await connectWs(gateway)
  expect((await once(ws, 'close'))[0]).toBe(1014)
  await silent.empty()
})

test('nothing listens: 502; all are gone: 502, not a hang', async () => {
  const gone = await startRawUpstream(() => {})
  const gateway = await startUpstreamGateway([gone])
  await gone.kill()
  expect((await refusal(gateway)).status).toBe(502)
})

test('a target arrives as it came; one that is none ejects nobody', async () => {
  const paths: string[] = []
  const [first, second] = await Promise.all(
    [0, 1].map(() => startWsUpstream((_ws, { url }) => paths.push(url!))),
  )
  const gateway = await startUpstreamGateway([first!, second!])
  const ask = async (path: string) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    }
    const request = httpRequest({ host: '127.0.0.1', port: gateway.publicPort, path, headers }).end()
    return new Promise<number>((resolve) => {
      request.on('upgrade', (_response, socket) => resolve(socket.destroy() && 101))
      request.on('response', (response) => resolve(response.resume().statusCode!))
    })
  }
  for (let i = 0; i < 12; i++) expect(await ask('/a#b')).toBe(400)
  expect(gateway.operator.nodes().map(({ health }) => health)).toEqual(['healthy', 'healthy'])
  const targets = ['/\\', '/\\evil/x', '/{a}|b^?c=`', '/%zz']
  for (const target of targets) expect(await ask(target)).toBe(101)
  expect(paths).toEqual(targets)
})

test('a foreign Origin, a bad handshake and an ambiguous path never reach the upstream', async () => {
  const upstream = await startWsUpstream(() => {})
  const gateway = await startUpstreamGateway([upstream], { path: '/legacy/*' })
  expect((await refusal(gateway, '/legacy/', { origin: 'https://evil.example' })).status).toBe(403)
  expect((await refusal(gateway, '/legacy/..%2fprivate')).status).toBe(400)
  expect((await refusal(gateway, '/legacy/', { protocolVersion: 8 })).status).toBe(400)
  expect((await refusal(gateway, '/other')).status).toBe(404)
  expect(upstream.accepted).toBe(0)
})

test('the gateway that stops closes its clients with 1012 and leaves no socket at the upstream', async () => {
  const upstream = await startWsUpstream(() => {})
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  const closed = once(ws, 'close')
  const [serverSide] = upstream.wss.clients
  const end = once(serverSide!, 'close')
  await gateway.close()
  expect((await closed)[0]).toBe(1012)
  expect((await end)[0]).toBe(1001)
})
