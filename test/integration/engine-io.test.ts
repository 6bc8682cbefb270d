import { once } from 'node:events'
import { Socket, type SocketOptions } from 'engine.io-client'
import type { Session, SessionHandlers } from 'evenkeel/sdk'
import { attachWebSocketServer } from 'evenkeel/ws'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { PollingWire } from '../support/engine-wire.ts'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisServer } from '../support/redis.ts'

const quiet = { info() {}, warn() {}, error() {} }

/** The client of Engine.IO as it is. */
async function connectEngine(gateway: Pick<TestGateway, 'httpUrl'>, options: Partial<SocketOptions> = {}) {
  const socket = new Socket(gateway.httpUrl, options)
  onTestFinished(() => void socket.close())
  const got = new Recorder<string | Buffer>()
  const closes = new Recorder<string>()
  // It says undefined for an empty text.
  socket.on('message', (data: string | Buffer | undefined) => got.add(data ?? ''))
  socket.on('close', (reason) => closes.add(reason))
  await new Promise<void>((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('error', reject)
  })
  return { socket, got, closes }
}

const ways: [string, string[]][] = [
  ['polling', ['polling']],
  ['websocket', ['websocket']],
  ['polling, upgraded', ['polling', 'websocket']],
]

test.each(ways)('%s: the client of Engine.IO talks to a plain node', async (_name, transports) => {
  const gateway = await startTestGateway()
  const sessions: Session[] = []
  await startTestNode(gateway, { ...echo, open: (session) => void sessions.push(session) })
  const { socket, got, closes } = await connectEngine(gateway, { transports, query: { a: '1 2' } })
  const messages = ['hello', '', 'é 🕊', Buffer.from([0, 255]), Buffer.alloc(70_000, 3), 'end']
  for (const message of messages) socket.send(message)
  await got.until(({ length }) => length === messages.length)
  expect(got.items).toEqual(messages)
  expect(sessions[0]!.meta).toMatchObject({
    transport: 'engine.io',
    address: '127.0.0.1',
    path: '/engine.io/',
  })
  expect(sessions[0]!.meta.query).toContain('a=1%202')
  expect(gateway.operator.counters.connections['engine.io']).toBe(1)
  expect(closes.items).toEqual([])
})

test.each(ways)(
  '%s: sessions move between nodes, and every message comes once, in order',
  async (_name, transports) => {
    const gateway = await startTestGateway()
    const counting: SessionHandlers<number> = {
      message(session, data) {
        session.state = (session.state ?? 0) + 1
        session.send(`${data}: ${session.state}`)
      },
    }
    await startTestNode(gateway, counting as SessionHandlers, { id: 'a' })
    await startTestNode(gateway, counting as SessionHandlers, { id: 'b' })
    const { socket, got, closes } = await connectEngine(gateway, { transports })
    const migrations = new Migrations(gateway)
    let sent = 0
    const send = () => socket.send(`m${++sent}`)
    for (let i = 0; i < 6; i++) {
      const { id, node } = gateway.operator.sessions({}).sessions[0]!
      const moved = migrations.start(id, node === 'a' ? 'b' : 'a')
      for (let n = 0; n < 5; n++) send()
      expect((await moved).outcome).toBe('moved')
      for (let n = 0; n < 5; n++) send()
      await got.until(({ length }) => length === sent)
    }
    expect(got.items).toEqual(Array.from({ length: 60 }, (_, i) => `m${i + 1}: ${i + 1}`))
    expect(closes.items).toEqual([])
  },
)

test('what a turn brings to a client that polls is one answer', async () => {
  const gateway = await startTestGateway()
  const bytes = Buffer.from([1, 2, 3])
  await startTestNode(gateway, {
    message(session) {
      for (const message of ['one', 'two', bytes, 'three']) session.send(message)
    },
  })
  const wire = await PollingWire.open(`${gateway.httpUrl}/engine.io/`)
  for (let i = 0; i < 3; i++) {
    const poll = wire.poll()
    // For the poll to be there first; were it later, the answer would be the same.
    await new Promise((resolve) => setTimeout(resolve, 50))
    await wire.send('4go')
    expect(await poll).toEqual({ status: 200, text: '4one\x1e4two\x1ebAQID\x1e4three' })
  }
})

test('channels and both ends of the session', async () => {
  const gateway = await startTestGateway()
  const ends = new Recorder<string>()
  const node = await startTestNode(gateway, {
    open: (session) => session.join('news'),
    message: (session) => session.close(4001, 'enough'),
    close: (_session, { cause, reason }) => ends.add(`${cause}: ${reason}`),
  })
  const clients = await Promise.all(ways.map(([, transports]) => connectEngine(gateway, { transports })))
  await expect.poll(() => gateway.operator.channelMembers('news')).toBe(clients.length)
  const news = ['one', Buffer.from('two'), '', Buffer.alloc(0), 'drei é']
  for (const piece of news) node.publish('news', piece)
  for (const { got } of clients) {
    await got.until(({ length }) => length === news.length)
    expect(got.items).toEqual(news)
  }
  const [leaver, , closed] = clients
  closed!.socket.send('please')
  await closed!.closes.until(({ length }) => length === 1)
  leaver!.socket.close()
  await ends.until(({ length }) => length === 2)
  expect(ends.items).toEqual(['node: enough', 'client: transport close'])
})

test('a plain ws application serves them as it does the others', async () => {
  const gateway = await startTestGateway()
  const wss = new WebSocketServer({ noServer: true })
  wss.on('connection', (ws) => {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
  })
  const attached = await attachWebSocketServer(wss, {
    id: 'a',
    gateways: [gateway.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
  })
  onTestFinished(() => attached.stop())
  const { socket, got } = await connectEngine(gateway)
  socket.send('text')
  socket.send(Buffer.from('bytes'))
  await got.until(({ length }) => length === 2)
  expect(got.items).toEqual(['text', Buffer.from('bytes')])
})

test('no sticky sessions are needed, nor is anybody but gateways let in behind', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const tokens = { adminToken: 'secret-of-the-gateways' }
  const owner = await startTestGateway({ redis: redis.url }, tokens)
  const other = await startTestGateway({ redis: redis.url }, tokens)
  await startTestNode(owner, echo, { gateways: [owner.linkUrl] })
  await expect.poll(() => other.operator.gateways().length).toBe(2)
  const { opened } = await PollingWire.open(`${owner.httpUrl}/engine.io/`)
  const path = `/engine.io/?EIO=4&transport=polling&sid=${opened.sid}`
  const post = await fetch(`${other.httpUrl}${path}`, { method: 'POST', body: '4hello' })
  expect([post.status, await post.text()]).toEqual([200, 'ok'])
  expect(await (await fetch(`${other.httpUrl}${path}`)).text()).toBe('4hello')
  const socket = new WebSocket(`${other.wsUrl.replace('/ws', path).replace('polling', 'websocket')}`)
  await once(socket, 'open')
  socket.send('2probe')
  const [probed] = await once(socket, 'message')
  expect(String(probed)).toBe('3probe')
  socket.close()
  expect((await fetch(`${owner.internalUrl}${path}`)).status).toBe(401)
  // The id of a session says nothing at the path of Socket.IO.
  expect((await fetch(`${owner.httpUrl}${path.replace('engine', 'socket')}`)).status).toBe(400)
})
