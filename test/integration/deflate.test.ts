import { once } from 'node:events'
import { connect } from 'node:net'
import { deflateRawSync } from 'node:zlib'
import { connect as connectClient } from 'evenkeel/client'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

const settings = { threshold: 100, windowBits: 13, memoryLevel: 7, concurrency: 4, noContextTakeover: true }
const start = (deflate: object | 'off' = settings, overrides = {}) =>
  startTestGateway({ websocket: { deflate }, ...overrides } as never)

async function open(gateway: TestGateway, options = {}): Promise<WebSocket> {
  const ws = new WebSocket(gateway.wsUrl, { perMessageDeflate: { threshold: 0 }, ...options })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

const bytesRead = (ws: WebSocket) => (ws as unknown as { _socket: { bytesRead: number } })._socket.bytesRead

test('off by default', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  expect((await open(gateway)).extensions).toBe('')
})

test('messages are compressed both ways, in order with those that are not', async () => {
  const gateway = await start()
  await startTestNode(gateway, echo)
  const ws = await open(gateway)
  expect(ws.extensions).toBe('permessage-deflate')
  const messages = [
    'short',
    'long '.repeat(2_000),
    '',
    'é 🕊'.repeat(300),
    Buffer.alloc(5_000, 7),
    Buffer.from([1]),
    'above what is compressed at once '.repeat(6_000),
    'end',
  ]
  const got: (string | Buffer)[] = []
  ws.on('message', (data: Buffer, isBinary: boolean) => got.push(isBinary ? data : data.toString()))
  const before = bytesRead(ws)
  for (const message of messages.slice(0, 6)) ws.send(message)
  await expect.poll(() => got.length).toBe(6)
  // 17 kB of messages.
  expect(bytesRead(ws) - before).toBeLessThan(1_000)
  for (const message of messages.slice(6)) ws.send(message)
  await expect.poll(() => got.length).toBe(8)
  expect(got).toEqual(messages)
})

test('a client that does not offer it, or wants a smaller window, gets messages as they are', async () => {
  const gateway = await start()
  await startTestNode(gateway, echo)
  const plain = await open(gateway, { perMessageDeflate: false })
  const small = await open(gateway, { perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9 } })
  expect([plain.extensions, small.extensions]).toEqual(['', 'permessage-deflate'])
  for (const ws of [plain, small]) {
    const before = bytesRead(ws)
    ws.send('x'.repeat(10_000))
    expect(String((await once(ws, 'message'))[0])).toBe('x'.repeat(10_000))
    expect(bytesRead(ws) - before).toBeGreaterThan(10_000)
  }
})

test('what a channel got is compressed once for all its members', async () => {
  const gateway = await start()
  const node = await startTestNode(gateway, { ...echo, open: (session) => session.join('news') })
  const members = await Promise.all([1, 2, 3].map(() => open(gateway)))
  const plain = await open(gateway, { perMessageDeflate: false })
  await expect.poll(() => gateway.operator.channelMembers('news')).toBe(4)
  const text = 'what happened '.repeat(500)
  const before = members.map(bytesRead)
  const got = [...members, plain].map(async (ws) => String((await once(ws, 'message'))[0]))
  node.publish('news', text)
  expect(await Promise.all(got)).toEqual([text, text, text, text])
  for (const [index, ws] of members.entries()) expect(bytesRead(ws) - before[index]!).toBeLessThan(500)
})

test('the client library talks to a gateway that compresses', async () => {
  const gateway = await start()
  const node = await startTestNode(gateway, { ...echo, open: (session) => session.join('news') })
  const got: unknown[] = []
  const client = connectClient(gateway.wsUrl, { WebSocket: WebSocket as never })
  onTestFinished(() => client.close())
  client.on('message', (data) => got.push(data))
  client.on('channel', ({ data }) => got.push(data))
  await expect.poll(() => gateway.operator.channelMembers('news')).toBe(1)
  const long = 'long '.repeat(1_000)
  await client.send(long)
  await client.send('short')
  node.publish('news', `${long}news`)
  await expect.poll(() => got).toEqual([long, 'short', `${long}news`])
})

test.each(['', 'evenkeel.v1'])(
  'a bomb is closed by 1009, without the memory that it wants (%s)',
  async (protocol) => {
    const gateway = await start()
    await startTestNode(gateway, echo)
    // 64 MiB of zeros, in 64 KiB.
    const bomb = deflateRawSync(Buffer.alloc(64 * 1024 * 1024), { finishFlush: 2 }).subarray(0, -4)
    const socket = connect(gateway.publicPort, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const lines = [
      'GET /ws HTTP/1.1',
      'Host: 127.0.0.1',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
      'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
      ...(protocol === '' ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
    ]
    let received = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
    })
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
    await expect
      .poll(() => received.toString('latin1'))
      .toMatch(/permessage-deflate; server_no_context_takeover; client_no_context_takeover/)
    received = Buffer.alloc(0)
    const head = Buffer.alloc(14)
    head.writeUInt16BE(0xc2ff)
    head.writeBigUInt64BE(BigInt(bomb.length), 2)
    const before = process.memoryUsage().rss
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss)
    }, 1)
    onTestFinished(() => clearInterval(watch))
    socket.write(Buffer.concat([head, bomb]))
    await once(socket, 'end')
    expect(received.indexOf(Buffer.from([0x88, 2, 0x03, 0xf1]))).toBeGreaterThanOrEqual(0)
    expect(most - before).toBeLessThan(32 * 1024 * 1024)
  },
)
