import { once } from 'node:events'
import { connect } from 'node:net'
import type { CloseReason, SessionMeta } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

async function connectClient(gateway: TestGateway, options: ClientOptions = {}, protocols: string[] = []) {
  const ws = new WebSocket(gateway.wsUrl, protocols, options)
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

async function nextMessage(ws: WebSocket): Promise<string | Buffer> {
  const [data, isBinary] = await once(ws, 'message')
  return isBinary ? (data as Buffer) : String(data)
}

/** The status of an upgrade that is refused. */
async function refusedStatus(gateway: TestGateway, options: ClientOptions = {}, protocols: string[] = []) {
  const ws = new WebSocket(gateway.wsUrl, protocols, options)
  ws.on('error', () => {})
  const [request, response] = await once(ws, 'unexpected-response')
  request.destroy()
  return { status: response.statusCode as number, headers: response.headers as Record<string, string> }
}

async function rawAnswer(gateway: TestGateway, request: string): Promise<string> {
  const socket = connect(gateway.publicPort, '127.0.0.1')
  socket.end(request)
  let answer = ''
  for await (const chunk of socket) answer += String(chunk)
  return answer
}

test('text and binary messages travel both ways, unchanged and in order', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const ws = await connectClient(gateway)
  const sent = [
    '',
    'a',
    'grüße 🌊',
    Buffer.alloc(0),
    Buffer.from([0, 255, 128]),
    'x'.repeat(70_000),
    Buffer.alloc(200_000, 7),
  ]
  const received: (string | Buffer)[] = []
  ws.on('message', (data, isBinary) => received.push(isBinary ? (data as Buffer) : String(data)))
  for (const message of sent) ws.send(message)
  await expect.poll(() => received.length).toBe(sent.length)
  expect(received).toEqual(sent)
})

test('the node learns who the client is', async () => {
  const gateway = await startTestGateway()
  const metas: SessionMeta[] = []
  await startTestNode(gateway, { open: (session) => void metas.push(session.meta) })
  const ws = new WebSocket(`${gateway.wsUrl}?room=7&x=%20`, ['chat.v2', 'chat.v1'], {
    headers: { 'X-Tenant': 'blue', Cookie: 'a=b', 'X-Forwarded-For': '6.6.6.6', 'X-Name': 'Zoë' },
  })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  expect(ws.protocol).toBe('chat.v2')
  await expect.poll(() => metas.length).toBe(1)
  expect(metas[0]).toMatchObject({
    transport: 'websocket',
    address: '127.0.0.1',
    path: '/ws',
    query: 'room=7&x=%20',
    subprotocol: 'chat.v2',
    headers: { 'x-tenant': 'blue', cookie: 'a=b', 'x-name': 'Zoë' },
  })
  expect(metas[0]!.headers).not.toHaveProperty('x-forwarded-for')
  expect(metas[0]!.headers).not.toHaveProperty('sec-websocket-key')
})

test('close codes and reasons pass both ways', async () => {
  const gateway = await startTestGateway()
  const reasons: CloseReason[] = []
  await startTestNode(gateway, {
    message(session, data) {
      session.send('last words')
      session.close(4321, `said ${data}`)
    },
    close: (_session, reason) => void reasons.push(reason),
  })
  const first = await connectClient(gateway)
  const words = nextMessage(first)
  first.send('no')
  const [code, reason] = await once(first, 'close')
  expect([await words, code, String(reason)]).toEqual(['last words', 4321, 'said no'])

  const second = await connectClient(gateway)
  second.close(4100, 'enough')
  await once(second, 'close')
  const third = await connectClient(gateway)
  third.terminate()
  await expect.poll(() => reasons.length).toBe(3)
  expect(reasons).toEqual([
    { code: 4321, reason: 'said no', cause: 'node' },
    { code: 4100, reason: 'enough', cause: 'client' },
    { code: 1006, reason: '', cause: 'client' },
  ])
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
})

test('what a client sent before it left is still handled', async () => {
  const gateway = await startTestGateway()
  const handled: unknown[] = []
  await startTestNode(gateway, {
    async message(_session, data) {
      await new Promise(setImmediate)
      handled.push(data)
    },
    close: () => void handled.push('closed'),
  })
  const ws = await connectClient(gateway)
  for (let i = 0; i < 5; i++) ws.send(String(i))
  ws.close()
  await expect.poll(() => handled).toEqual(['0', '1', '2', '3', '4', 'closed'])
})

test('bad frames close their own session alone', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const good = await connectClient(gateway)
  const tooBig = await connectClient(gateway)
  tooBig.send(Buffer.alloc(1024 * 1024 + 1))
  expect((await once(tooBig, 'close'))[0]).toBe(1009)

  for (const [frame, code] of [
    // Text that is not UTF-8; a reserved opcode; a frame without a mask. All with the key 0.
    [Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]), 1007],
    [Buffer.from([0x83, 0x80, 0, 0, 0, 0]), 1002],
    [Buffer.from([0x81, 0x01, 0x61]), 1002],
  ] as const) {
    const bad = new WebSocket(gateway.wsUrl)
    bad.on('error', () => {})
    const [[response]] = await Promise.all([once(bad, 'upgrade'), once(bad, 'open')])
    response.socket.write(frame)
    expect((await once(bad, 'close'))[0]).toBe(code)
  }
  good.send('still here')
  expect(await nextMessage(good)).toBe('still here')
})

test('a failing handler closes the session with 1011', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, {
    message() {
      throw new Error('no')
    },
  })
  const ws = await connectClient(gateway)
  ws.send('x')
  expect((await once(ws, 'close'))[0]).toBe(1011)
})

test('silent clients are pinged, dead ones dropped', async () => {
  const gateway = await startTestGateway({ limits: { idlePingMs: 1_000, idlePongMs: 1_000 } })
  const reasons: CloseReason[] = []
  await startTestNode(gateway, { close: (_session, reason) => void reasons.push(reason) })
  const alive = await connectClient(gateway)
  const dead = await connectClient(gateway, { autoPong: false } as ClientOptions)
  await Promise.all([once(alive, 'ping'), once(dead, 'ping'), once(dead, 'close')])
  await expect.poll(() => reasons.map(({ code }) => code)).toEqual([1006])
  expect(alive.readyState).toBe(WebSocket.OPEN)
})

test('without a node: 503 with Retry-After, or a bounded wait', async () => {
  const eager = await startTestGateway()
  const refused = await refusedStatus(eager)
  expect(refused.status).toBe(503)
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)

  const patient = await startTestGateway({ limits: { waitForNodeMs: 20_000 } })
  const ws = new WebSocket(patient.wsUrl)
  onTestFinished(() => ws.terminate())
  const open = once(ws, 'open')
  await startTestNode(patient, echo)
  await open
  ws.send('hello')
  expect(await nextMessage(ws)).toBe('hello')
})

test('foreign origins, our own subprotocol names and too many headers are refused', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  expect((await refusedStatus(gateway, { origin: 'https://evil.example' })).status).toBe(403)
  expect((await refusedStatus(gateway, {}, ['evenkeel.v9'])).status).toBe(400)
  const many = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [`x-${i}`, '1']))
  expect((await refusedStatus(gateway, { headers: many })).status).toBe(431)
  expect((await refusedStatus(gateway, { headers: { 'x-large': 'x'.repeat(20_000) } })).status).toBe(431)
  const same = await connectClient(gateway, { origin: `http://127.0.0.1:${gateway.publicPort}` })
  same.close()
})

const upgrade =
  'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n'
test.each([
  ['an absolute target', `GET http://169.254.169.254/ws HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 400],
  ['a target with //', `GET //evil/ws HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 400],
  ['two Host headers', `GET /ws HTTP/1.1\r\nHost: x\r\nHost: y\r\n${upgrade}\r\n`, 400],
  ['a body', `GET /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n${upgrade}\r\nabc`, 400],
  ['an old version', `GET /ws HTTP/1.1\r\nHost: x\r\n${upgrade.replace('13', '8')}\r\n`, 400],
  ['a bad key', `GET /ws HTTP/1.1\r\nHost: x\r\n${upgrade.replace('AAAA', '')}\r\n`, 400],
  ['another method', `POST /ws HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 405],
  ['another path', `GET /elsewhere HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 404],
  ['no upgrade', 'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 426],
  ['no HTTP', '\x16\x03\x01\r\n\r\n', 400],
])('an upgrade with %s is refused', async (_name, request, status) => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, {
    open() {
      throw new Error('must not be reached')
    },
  })
  const answer = await rawAnswer(gateway, request)
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1)
})

test('the gateway closes its clients with 1012 when it stops', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const ws = await connectClient(gateway)
  const closed = once(ws, 'close')
  await gateway.close()
  expect((await closed)[0]).toBe(1012)
})
