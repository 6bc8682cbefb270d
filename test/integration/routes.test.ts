import { once } from 'node:events'
import { createNode } from 'evenkeel/sdk'
import { io } from 'socket.io-client'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { startSocketIoNode } from '../support/socket-io.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'
import { noSessions } from '../support/upstreams.ts'

const quiet = { info() {}, warn() {}, error() {} }

interface Met {
  node: string
  path: string
}

/** A node that says who it is and what it was asked. */
async function startTeller(gateway: TestGateway, id: string, pool: string): Promise<void> {
  const node = createNode({ id, pool, gateways: [gateway.linkUrl], drainOnSigterm: false, logger: quiet })
  node.serve({
    open: (session) => void session.send(JSON.stringify({ node: id, path: session.meta.path })),
    message: (session, data) => void session.send(`${id}: ${String(data)}`),
  })
  node.run('count', async function* () {
    yield 'one'
  })
  onTestFinished(() => node.stop())
  await node.start()
}

interface Opened {
  met: Met
  cookie: string | undefined
}

/** Which node a WebSocket is given, and the cookie that comes with it. */
async function open(
  gateway: TestGateway,
  path: string,
  headers: Record<string, string> = {},
): Promise<Opened> {
  const ws = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}${path}`, { headers })
  onTestFinished(() => ws.terminate())
  const [[answer], [data]] = await Promise.all([once(ws, 'upgrade'), once(ws, 'message')])
  const cookie = (answer.headers['set-cookie'] as string[] | undefined)?.[0]
  ws.close()
  return { met: JSON.parse(String(data)), cookie }
}

const nodeAt = async (gateway: TestGateway, path: string, headers: Record<string, string> = {}) =>
  (await open(gateway, path, headers)).met.node

test('several pools of nodes are served, by path, host, method, header, cookie and query', async () => {
  const gateway = await startTestGateway({
    routes: [
      { path: '/ws', headers: { 'x-beta': { present: true } }, pool: 'beta', protocol: 'websocket' },
      { path: '/ws', host: '*.chat.example', pool: 'chat', protocol: 'websocket' },
      { path: '/ws', cookies: { tier: 'gold' }, pool: 'gold', protocol: 'websocket' },
      { path: '/ws', query: { v: '2' }, pool: 'beta', protocol: 'websocket' },
      // Nobody was identified.
      { path: '/ws', claims: { sub: { present: true } }, pool: 'gold', protocol: 'websocket' },
      { path: '/chat/ws', pool: 'chat', protocol: 'websocket' },
      { path: '/rooms/*', pool: 'chat', protocol: 'websocket' },
    ] as never,
  })
  await Promise.all(['default', 'beta', 'chat', 'gold'].map((pool) => startTeller(gateway, pool, pool)))
  expect(await open(gateway, '/ws?a=b')).toMatchObject({ met: { node: 'default', path: '/ws' } })
  expect(await nodeAt(gateway, '/ws', { 'x-beta': '' })).toBe('beta')
  expect(await nodeAt(gateway, '/ws', { host: 'a.chat.example:80' })).toBe('chat')
  expect(await nodeAt(gateway, '/ws', { cookie: 'tier=gold' })).toBe('gold')
  expect(await nodeAt(gateway, '/ws?v=2')).toBe('beta')
  // Nodes see the path that was asked for.
  expect((await open(gateway, '/chat/ws')).met).toEqual({ node: 'chat', path: '/chat/ws' })
  expect((await open(gateway, '/rooms/7')).met).toEqual({ node: 'chat', path: '/rooms/7' })
  await expect(open(gateway, '/chat/ws/x')).rejects.toThrow('404')
})

test('all that nodes serve is served at other paths, too', async () => {
  const routes = [
    { path: '/chat/sse', protocol: 'sse', pool: 'chat' },
    { path: '/chat/runs', protocol: 'runs', pool: 'chat' },
    { path: '/chat/io/', protocol: 'socket.io', pool: 'io' },
  ]
  const gateway = await startTestGateway({ routes: routes as never })
  await startTeller(gateway, 'chat-1', 'chat')
  await startSocketIoNode(
    [gateway],
    (server) => server.on('connection', (socket) => socket.emit('hi', 'io')),
    {
      id: 'io-1',
      pool: 'io',
    },
  )

  const chatUrl = `${gateway.httpUrl}/chat`
  const stream = await SseStream.open(chatUrl)
  const session = await stream.session()
  expect(JSON.parse((await stream.next()).data)).toEqual({ node: 'chat-1', path: '/chat/sse' })
  expect((await postTo(chatUrl, session, 'hello')).status).toBe(202)
  expect((await stream.next()).data).toBe('chat-1: hello')

  const run = await fetch(`${gateway.httpUrl}/chat/runs`, {
    method: 'POST',
    body: JSON.stringify({ name: 'count', body: {} }),
  })
  expect(await run.text()).toContain('one')
  const again = await fetch(`${gateway.httpUrl}/chat/runs/${run.headers.get('x-run-id')}/events`)
  expect(await again.text()).toContain('one')

  for (const transports of [['polling'], ['websocket']]) {
    const socket = io(gateway.httpUrl, { path: '/chat/io/', transports })
    onTestFinished(() => void socket.disconnect())
    expect(await new Promise((resolve) => socket.on('hi', resolve))).toBe('io')
  }
})

test('a client keeps its part of a split by the cookie that it is given, and may ask for one', async () => {
  const split = [
    { pool: 'b', percent: 50, force: { headers: { 'x-variant': 'b' }, cookies: { variant: 'b' } } },
  ]
  const gateway = await startTestGateway({
    routes: [
      { path: '/ws', protocol: 'websocket', pool: 'a', split },
      { path: '/sse', protocol: 'sse', pool: 'a', split },
      { path: '/user/ws', protocol: 'websocket', pool: 'a', split, sticky: { by: 'header', name: 'x-user' } },
    ] as never,
  })
  await Promise.all(['a', 'b'].map((pool) => startTeller(gateway, pool, pool)))
  const nodes = new Set<string>()
  for (let i = 0; nodes.size < 2 && i < 64; i++) {
    const { met, cookie } = await open(gateway, '/ws')
    expect(cookie).toMatch(/^evenkeel-client=[\w-]{22}; Path=\/; Max-Age=31536000; HttpOnly; SameSite=Lax$/)
    const again = { cookie: cookie!.split(';')[0]! }
    for (let j = 0; j < 3; j++) expect(await open(gateway, '/ws', again)).toEqual({ met, cookie: undefined })
    // Another route with the same seed gives it the same part.
    const stream = await SseStream.open(gateway.httpUrl, { headers: again })
    expect(JSON.parse((await stream.next()).data)).toMatchObject({ node: met.node })
    stream.cut()
    nodes.add(met.node)
  }
  expect(nodes.size).toBe(2)
  for (let i = 0; i < 4; i++) {
    expect(await nodeAt(gateway, '/ws', { 'x-variant': 'b' })).toBe('b')
    expect(await nodeAt(gateway, '/ws', { cookie: 'variant=b' })).toBe('b')
    // Who shows nothing stays with the pool of the route.
    expect(await nodeAt(gateway, '/user/ws')).toBe('a')
  }
  const parts = await Promise.all(
    Array.from({ length: 24 }, (_, i) => nodeAt(gateway, '/user/ws', { 'x-user': `u${i}` })),
  )
  expect(new Set(parts)).toEqual(new Set(['a', 'b']))
  expect(
    await Promise.all(
      Array.from({ length: 24 }, (_, i) => nodeAt(gateway, '/user/ws', { 'x-user': `u${i}` })),
    ),
  ).toEqual(parts)
  const { response } = await SseStream.open(gateway.httpUrl)
  expect(response.headers['set-cookie']).toEqual([expect.stringMatching(/^evenkeel-client=[\w-]{22};/)])
})

test('the route says what the policy key-hash hashes', async () => {
  const gateway = await startTestGateway({
    pools: { keyed: { policy: 'key-hash', of: 'nodes' } } as never,
    routes: [
      { path: '/room/*', protocol: 'websocket', pool: 'keyed', affinity: { query: 'room' } },
      { path: '/by-cookie', protocol: 'websocket', pool: 'keyed', affinity: { cookie: 'room' } },
    ] as never,
  })
  const ids = ['n1', 'n2', 'n3']
  await Promise.all(ids.map((id) => startTeller(gateway, id, 'keyed')))
  const seen = new Set<string>()
  for (let i = 0; i < 12; i++) {
    // A node that has a session already is above its share of so few.
    const alone = async (path: string, headers: Record<string, string> = {}) => {
      await noSessions(gateway)
      return await nodeAt(gateway, path, headers)
    }
    const node = await alone(`/room/x?room=${i}`)
    expect(await alone(`/room/y?room=${i}`)).toBe(node)
    expect(await alone('/by-cookie', { cookie: `room=${i}` })).toBe(node)
    seen.add(node)
  }
  expect(seen.size).toBeGreaterThan(1)
})

test('a client that comes back to another gateway finds its session in the pool where it began', async () => {
  const former = await startTestGateway({
    routes: [{ path: '/ws', protocol: 'websocket', pool: 'blue' }] as never,
  })
  // Its route leads to another pool by now.
  const later = await startTestGateway({ pool: 'green' })
  const node = createNode({
    id: 'blue-1',
    pool: 'blue',
    gateways: [former.linkUrl, later.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
  })
  node.serve({ message: (session, data) => void session.send(`blue: ${String(data)}`) })
  onTestFinished(() => node.stop())
  await node.start()
  await startTeller(later, 'green-1', 'green')
  await expect.poll(() => later.operator.nodes().length).toBe(2)
  const { welcome } = await RawResumableClient.connect(former.wsUrl)
  await former.close()
  const { session, token } = welcome
  const back = await RawResumableClient.connect(later.wsUrl, {
    resume: { session, token, out: 0, channels: {} },
  })
  expect(back.welcome).toMatchObject({ session, recovered: true })
  back.send('mhello')
  expect(await back.frame('m')).toBe('mblue: hello')
  expect(later.operator.session(session)).toMatchObject({ node: 'blue-1', pool: 'blue' })
})
