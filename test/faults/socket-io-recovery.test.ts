import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { startGatewayChild } from '../support/gateway-child.ts'
import { startTestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, type TestClient, until } from '../support/socket-io.ts'
import { adapterOf } from '../support/socket-io-adapter.ts'

const app = (io: Server, id: string) => {
  io.use((socket, next) => {
    seen.push(`${id} ${socket.recovered}`)
    next()
  })
  io.on('connection', (socket) => {
    if (!socket.recovered) {
      void socket.join('all')
      socket.data.name = socket.handshake.auth.name
    }
    socket.on('who', (answer) => answer([id, socket.recovered, socket.data.name, socket.rooms.has('all')]))
  })
}

/** Middlewares that ran. */
const seen: string[] = []

/** Where the client connects the next time. */
function turnTo(client: TestClient, httpUrl: string): void {
  Object.assign(client.io, { uri: httpUrl })
}

test('connectionStateRecovery of Socket.IO, by an adapter that has it: a gateway is killed, the client gets what it has missed', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const doomed = await startGatewayChild({})
  const other = await startTestGateway()
  const nodes = []
  for (const id of ['a', 'b']) {
    nodes.push(
      await startSocketIoNode([doomed, other], app, {
        id,
        rooms: 'adapter',
        adapter: adapterOf(redis, 'streams'),
        server: { connectionStateRecovery: {} },
      }),
    )
  }
  const client = await connectClient(
    { httpUrl: `http://127.0.0.1:${doomed.publicPort}` },
    { auth: { name: 'ann' }, reconnection: true, reconnectionDelay: 300, reconnectionDelayMax: 300 },
  )
  const words: unknown[] = []
  client.on('heard', (word) => words.push(word))
  const first = (await client.emitWithAck('who')) as [string, boolean]
  expect(first.slice(1)).toEqual([false, 'ann', true])
  nodes[0]!.io.to('all').emit('heard', 1)
  await until(() => words.length === 1)
  turnTo(client, other.httpUrl)
  doomed.signal('SIGKILL')
  await until(() => client.losses.length === 1)
  nodes[0]!.io.to('all').emit('heard', 2)
  // The other node has a connection of its own: once this one is answered, Redis has what it said before.
  await nodes[0]!.io.fetchSockets()
  nodes[1]!.io.to(client.idsSeen[0]!).emit('heard', Buffer.from('3'))
  await until(() => client.connected)
  nodes[1]!.io.to('all').emit('heard', 4)
  await until(() => words.length === 4)
  expect(words).toEqual([1, 2, Buffer.from('3'), 4])
  expect(client.recovered).toBe(true)
  expect(client.idsSeen).toEqual([client.id, client.id])
  const [node, ...rest] = (await client.emitWithAck('who')) as [string, ...unknown[]]
  expect(rest).toEqual([true, 'ann', true])

  // Once recovered it moves as any other, and what it has missed does not come again.
  const migrations = new Migrations(other)
  const { id } = other.operator.sessions({}).sessions[0]!
  expect((await migrations.start(id, node === 'a' ? 'b' : 'a')).outcome).toBe('moved')
  nodes[0]!.io.to('all').emit('heard', 5)
  await until(() => words.length >= 5)
  expect(words).toEqual([1, 2, Buffer.from('3'), 4, 5])
  client.io.engine.close()
  await until(() => client.losses.length === 2)
  nodes[0]!.io.to('all').emit('heard', 6)
  await until(() => words.length >= 6)
  expect(words.slice(5)).toEqual([6])
  expect(client.recovered).toBe(true)
})

test('what was recovered once is not recovered again when the session moves', async () => {
  const gateway = await startTestGateway()
  const options = { rooms: 'adapter', server: { connectionStateRecovery: {} } } as const
  const first = await startSocketIoNode([gateway], app, { id: 'a', ...options })
  const client = await connectClient(gateway, { reconnection: true, reconnectionDelay: 10 })
  const words: unknown[] = []
  client.on('heard', (word) => words.push(word))
  first.io.to('all').emit('heard', 1)
  await until(() => words.length === 1)
  client.io.engine.close()
  await until(() => client.losses.length === 1)
  first.io.to('all').emit('heard', 2)
  await until(() => words.length === 2)
  expect(client.recovered).toBe(true)
  await startSocketIoNode([gateway], app, { id: 'b', ...options })
  seen.length = 0
  const migrations = new Migrations(gateway)
  const { id } = gateway.operator.sessions({}).sessions[0]!
  for (const target of ['b', 'a']) expect((await migrations.start(id, target)).outcome).toBe('moved')
  const who = (await client.emitWithAck('who')) as [string, boolean]
  expect(who.slice(0, 2)).toEqual(['a', true])
  // Socket.IO passes over them when it recovers; in a move they run.
  expect(seen).toEqual(['b true', 'a true'])
  first.io.to('all').emit('heard', 3)
  await until(() => words.includes(3))
  expect(words).toEqual([1, 2, 3])
})
