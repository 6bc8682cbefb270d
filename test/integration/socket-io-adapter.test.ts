import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { RecordFlag, RecordType } from '../../src/protocol/link-records.ts'
import { fencePublisher } from '../../src/sdk/socket-io/fences.ts'
import { startTestGateway } from '../support/in-process.ts'
import { u32s } from '../support/link-wire.ts'
import { Migrations } from '../support/migrations.ts'
import { RedisServer } from '../support/redis.ts'
import { ScriptedGateway } from '../support/scripted-gateway.ts'
import { connectClient, startSocketIoNode, type TestClient, until } from '../support/socket-io.ts'
import { type AdapterKind, adapterOf, emitterOf, startPlainServer } from '../support/socket-io-adapter.ts'

async function startRedis(): Promise<RedisServer> {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  return redis
}

const app = (io: Server, id: string) => {
  io.on('connection', (socket) => {
    if (!socket.recovered) {
      void socket.join('all')
      socket.data.name = socket.handshake.auth.name
    }
    socket.on('where', (answer) => answer(id))
    socket.on('rooms', (answer) => answer([...socket.rooms]))
    socket.on('others', (word) => socket.broadcast.emit('heard', word))
  })
  io.on('servers', (n: number, answer?: (answer: string) => void) => {
    serversHeard.push(`${id} ${n}`)
    answer?.(`${id} ${n}`)
  })
}
const serversHeard: string[] = []

function listen(client: TestClient): unknown[] {
  const words: unknown[] = []
  client.on('heard', (word) => words.push(word))
  client.on('vote', (n: number, answer: (name: string) => void) => answer(`${client.id} ${n}`))
  return words
}

test.each<[string, AdapterKind]>([
  ['@socket.io/redis-adapter', 'redis'],
  ['its sharded adapter', 'sharded'],
  ['@socket.io/redis-streams-adapter', 'streams'],
])("rooms: 'adapter' with %s: servers behind the gateway and others are one cluster", async (_name, kind) => {
  const redis = await startRedis()
  const gateway = await startTestGateway()
  const nodes = []
  for (const id of ['a', 'b'])
    nodes.push(
      await startSocketIoNode([gateway], app, { id, rooms: 'adapter', adapter: adapterOf(redis, kind) }),
    )
  const plain = await startPlainServer(redis, app, { id: 'plain', kind })
  const clients: TestClient[] = []
  for (let i = 0; i < 4; i++) clients.push(await connectClient(gateway, { auth: { name: `c${i}` } }))
  for (let i = 4; i < 6; i++) clients.push(await connectClient(plain, { auth: { name: `c${i}` } }))
  const heard = clients.map(listen)
  const places = await Promise.all(clients.map((client) => client.emitWithAck('where')))
  expect(new Set(places)).toEqual(new Set(['a', 'b', 'plain']))
  const ios = [...nodes.map(({ io }) => io), plain.io]
  for (const io of ios)
    await until(
      async () =>
        (
          await io
            .in('all')
            .fetchSockets()
            .catch(() => [])
        ).length === 6,
    )

  for (const [i, io] of ios.entries()) io.to('all').emit('heard', i)
  await until(() => heard.flat().length === 18)
  clients[0]!.emit('others', 'from behind')
  clients[5]!.emit('others', Buffer.from('from outside'))
  await until(() => heard.flat().length === 28)
  expect(heard.map((words) => words.length)).toEqual([4, 5, 5, 5, 5, 4])
  for (const io of ios) {
    const votes = (await io.timeout(10_000).emitWithAck('vote', 1)) as string[]
    expect(votes.sort()).toEqual(clients.map(({ id }) => `${id} 1`).sort())
    expect((await io.serverSideEmitWithAck('servers', 3)).length).toBe(2)
  }

  plain.io.in(clients[0]!.id!).socketsJoin('few')
  nodes[0]!.io.in(clients[5]!.id!).socketsJoin('few')
  await until(async () => (await plain.io.in('few').fetchSockets()).length === 2)
  const migrations = new Migrations(gateway)
  for (const { id, node } of gateway.operator.sessions({}).sessions)
    expect((await migrations.start(id, node === 'a' ? 'b' : 'a')).outcome).toBe('moved')
  expect(new Set(await clients[0]!.emitWithAck('rooms'))).toEqual(new Set([clients[0]!.id, 'all', 'few']))
  for (const io of ios) io.to('few').emit('heard', 'few')
  await until(() => [0, 5].every((i) => heard[i]!.filter((word) => word === 'few').length === 3))
  plain.io.in('all').except('few').disconnectSockets()
  await until(() => clients.filter(({ losses }) => losses.length === 1).length === 4)
  expect(clients.map(({ losses }) => losses.length)).toEqual([0, 1, 1, 1, 1, 0])
})

test('emitters reach sockets behind the gateway by way of the adapter', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway()
  for (const id of ['a', 'b'])
    await startSocketIoNode([gateway], app, { id, rooms: 'adapter', adapter: adapterOf(redis) })
  const clients = await Promise.all([0, 1, 2, 3].map(() => connectClient(gateway)))
  const heard = clients.map(listen)
  const emitter = emitterOf(redis)
  for (let n = 0; n < 20; n++) emitter.to('all').emit('heard', n)
  emitter.to(clients[0]!.id!).emit('heard', Buffer.from('you'))
  emitter.except(clients[0]!.id!).emit('heard', 'the others')
  emitter.in(clients[1]!.id!).socketsJoin('one')
  emitter.to('one').emit('heard', 'one')
  await until(() => heard.flat().length === 85)
  expect(heard.map((words) => words.length)).toEqual([21, 22, 21, 21])
  emitter.in('one').disconnectSockets(true)
  await until(() => clients[1]!.losses.length === 1)
  serversHeard.length = 0
  emitter.serverSideEmit('servers', 9)
  await until(() => serversHeard.length === 2)
  expect(serversHeard.sort()).toEqual(['a 9', 'b 9'])
})

test("the adapter that a server had is replaced, and closed, with rooms: 'gateway'", async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway()
  const nodes = []
  for (const id of ['a', 'b'])
    nodes.push(await startSocketIoNode([gateway], app, { id, adapter: adapterOf(redis) }))
  const plain = await startPlainServer(redis, app, { id: 'plain' })
  const client = await connectClient(gateway)
  const words = listen(client)
  serversHeard.length = 0
  plain.io.serverSideEmit('servers', 1)
  plain.io.emit('heard', 'by the adapter')
  expect(await nodes[0]!.io.serverSideEmitWithAck('servers', 2)).toEqual(['b 2'])
  nodes[0]!.io.emit('heard', 'by the gateway')
  await until(() => words.length === 1)
  expect(words).toEqual(['by the gateway'])
  expect(serversHeard).toEqual(['b 2'])
})

test('a server behind the gateway may have clients of its own too', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway()
  const http = createServer()
  const ready = (io: Server, id: string) => {
    io.attach(http)
    app(io, id)
  }
  const node = await startSocketIoNode([gateway], ready, {
    id: 'a',
    rooms: 'adapter',
    adapter: adapterOf(redis),
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const own = { httpUrl: `http://127.0.0.1:${(http.address() as AddressInfo).port}` }
  const clients = [await connectClient(gateway), await connectClient(own)]
  onTestFinished(() => void http.close())
  const heard = clients.map(listen)
  for (const client of clients) client.emit('others', 'hello')
  emitterOf(redis).to('all').emit('heard', 'emitter')
  await until(() => heard.every((words) => words.length === 2))
  expect(await node.io.timeout(5_000).emitWithAck('vote', 1)).toHaveLength(2)
})

test('what a session misses while a move is called off is given to it', async () => {
  const redis = await startRedis()
  const gateway = await ScriptedGateway.start()
  const { io } = await startSocketIoNode([{ linkUrl: gateway.url }], app, {
    id: 'a',
    rooms: 'adapter',
    adapter: adapterOf(redis),
  })
  const meta = JSON.stringify({
    id: 'session-1',
    transport: 'socket.io',
    address: '127.0.0.1',
    path: '/socket.io/',
    query: 'EIO=4&transport=websocket',
    headers: {},
    subprotocol: null,
  })
  const where = { session: 1, term: 1 }
  gateway.send('open', { ...where, body: u32s([1_000_000, 0, 0, Buffer.byteLength(meta)], meta) })
  gateway.send('message', { ...where, flags: RecordFlag.text, body: u32s([1], '0{}') })
  await until(() => io.sockets.adapter.rooms.get('all')?.size === 1)
  const emitter = emitterOf(redis)
  const output = (text: string) => gateway.next('output', ({ body }) => body.toString().includes(text))
  emitter.to('all').emit('heard', 'before')
  await output('before')

  const second = await startPlainServer(redis, app, { id: 'plain' })
  await until(async () => (await second.io.fetchSockets()).length === 1)
  const publish = fencePublisher(second.io.sockets.adapter as never)!
  publish(['session-1', 2])
  gateway.send('quiesce', { ...where, body: u32s([2]) })
  await gateway.next('fin')
  emitter.to('all').emit('heard', 'meanwhile')
  io.to('all').emit('heard', 'from here')
  emitter.in('all').socketsJoin('late')
  await until(async () => (await second.io.serverSideEmitWithAck('servers', 1)).length === 1)
  expect(gateway.received.some(({ body }) => body.includes('meanwhile'))).toBe(false)
  gateway.send('resume', { ...where, body: u32s([2]) })
  await output('meanwhile')
  await output('from here')
  emitter.to('late').emit('heard', 'after')
  await output('after')
  const texts = gateway.received
    .filter(({ type }) => type === RecordType.output)
    .map(({ body }) => String(body))
  for (const word of ['before', 'meanwhile', 'from here', 'after'])
    expect(texts.filter((text) => text.includes(word))).toHaveLength(1)
})

test('while Redis is away sessions stay where they are, and go on', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway()
  for (const id of ['a', 'b'])
    await startSocketIoNode([gateway], app, { id, rooms: 'adapter', adapter: adapterOf(redis) })
  const client = await connectClient(gateway)
  const migrations = new Migrations(gateway)
  const source = await client.emitWithAck('where')
  const target = source === 'a' ? 'b' : 'a'
  const { id } = gateway.operator.sessions({}).sessions[0]!
  await redis.kill()
  expect((await migrations.start(id, target)).outcome).toBe('vetoed')
  expect(await client.emitWithAck('where')).toBe(source)
  await redis.restart()
  await until(async () => (await migrations.start(id, target)).outcome === 'moved')
  expect(await client.emitWithAck('where')).toBe(target)
  expect(client.losses).toEqual([])
})

test('with the in-memory adapter a server reaches its own sockets, and they move', async () => {
  const gateway = await startTestGateway()
  const nodes = []
  for (const id of ['a', 'b']) nodes.push(await startSocketIoNode([gateway], app, { id, rooms: 'adapter' }))
  const client = await connectClient(gateway)
  const words = listen(client)
  const migrations = new Migrations(gateway)
  for (const target of ['b', 'a', 'b']) {
    const { id, node } = gateway.operator.sessions({}).sessions[0]!
    if (node !== target) expect((await migrations.start(id, target)).outcome).toBe('moved')
    expect(await client.emitWithAck('where')).toBe(target)
    for (const { io, id: name } of nodes) io.to('all').emit('heard', name)
  }
  await until(() => words.length === 3)
  expect(words).toEqual(['b', 'a', 'b'])
})
