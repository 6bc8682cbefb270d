import { createRequire } from 'node:module'
import { attachSocketIO } from 'evenkeel/socket.io'
import type { Server } from 'socket.io'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, until } from '../support/socket-io.ts'
import { adapterOf } from '../support/socket-io-adapter.ts'

const require = createRequire(import.meta.url)
const packages = ['socket.io-4.6', 'socket.io-4.7', 'socket.io'] as const

describe.each(packages)('%s', (name) => {
  const { Server: SomeServer } = require(name) as { Server: typeof Server }

  test('has what is used of it and is not public', () => {
    const io = new SomeServer() as unknown as Record<string, Record<string, unknown>>
    const namespace = io.sockets!
    expect(namespace._ids).toBe(0)
    const adapter = namespace.adapter as Record<string, unknown>
    for (const name of [
      '_encode',
      'apply',
      'broadcast',
      'addAll',
      'del',
      'delAll',
      'fetchSockets',
      'sockets',
    ])
      expect(adapter[name]).toBeTypeOf('function')
    expect(namespace._createSocket).toBeTypeOf('function')
    expect(namespace._doConnect).toBeTypeOf('function')
    expect(namespace.run).toBeTypeOf('function')
    expect(namespace._onServerSideEmit).toBeTypeOf('function')
    expect(io._nsps).toBeInstanceOf(Map)
    expect(io._parser!.Decoder).toBeTypeOf('function')
    expect(io.encoder!.encode).toBeTypeOf('function')
    const socket = (require(name) as { Socket: { prototype: Record<string, unknown> } }).Socket.prototype
    expect(socket._onconnect).toBeTypeOf('function')
    expect(socket._cleanup).toBeTypeOf('function')
  })

  test.each(['gateway', 'adapter'] as const)(
    'moves with a client: id, rooms of the %s, data, middlewares, acknowledgements',
    async (rooms) => {
      const gateway = await startTestGateway()
      const redis = rooms === 'adapter' ? await RedisServer.start() : null
      onTestFinished(() => redis?.stop())
      const nodes = await Promise.all(
        ['a', 'b'].map((id) =>
          startSocketIoNode(
            [gateway],
            (io) => {
              const serve = (server: Pick<Server, 'on'>) =>
                server.on('connection', (socket) => {
                  if (!socket.recovered) {
                    void socket.join('r')
                    socket.data.k = 1
                  }
                  socket.on('what', (blob: Buffer, answer) =>
                    answer([id, socket.recovered, [...socket.rooms].length, socket.data.k, blob.length]),
                  )
                  socket.on('late join', (answer) => setTimeout(() => answer(void socket.join('late')), 30))
                  socket.on('slow', (answer) => setTimeout(() => answer(id), 30))
                  socket.on('ask', () => socket.emit('question', (n: number) => socket.emit('thanks', n)))
                })
              serve(io)
              serve(io.of('/x') as never)
            },
            { id, package: name, ...(redis === null ? {} : { rooms, adapter: adapterOf(redis) }) },
          ),
        ),
      )
      const migrations = new Migrations(gateway)
      const tiers: string[] = []
      gateway.operator.onEvent((event) => {
        if (event.type === 'continued') tiers.push(`${event.cause} ${event.tier}`)
      })
      const client = await connectClient(gateway)
      const second = client.io.socket('/x')
      await until(() => second.connected)
      const ids = [client.id, second.id]
      const { id, node } = gateway.operator.sessions({}).sessions[0]!
      const target = node === 'a' ? 'b' : 'a'
      let thanks = 0
      client.on('question', (answer: (n: number) => void) => setTimeout(answer, 30, 7))
      client.on('thanks', (n: number) => (thanks = n))
      client.emit('ask')
      const slow = client.emitWithAck('slow')
      await client.emitWithAck('what', Buffer.alloc(1))
      expect((await migrations.start(id, target)).outcome).toBe('moved')
      expect(await slow).toBe(node)
      await until(() => thanks === 7)
      for (const socket of [client, second])
        expect(await socket.emitWithAck('what', Buffer.alloc(5))).toEqual([target, true, 2, 1, 5])
      expect([client.id, second.id]).toEqual(ids)
      let heard = 0
      second.on('all', () => heard++)
      for (const { io } of nodes) io.of('/x').to('r').emit('all', Buffer.alloc(3))
      await until(() => heard === 2)
      // By the handlers that are left behind.
      const late = client.emitWithAck('late join')
      await client.emitWithAck('what', Buffer.alloc(1))
      expect((await migrations.start(id, node!)).outcome).toBe('moved')
      await late
      await until(async () => (await client.emitWithAck('what', Buffer.alloc(1)))[2] === 3)
      expect(client.losses).toEqual([])
      expect(tiers).toEqual(['migration exact', 'migration exact'])
    },
  )
})

test('a server that does not fit is refused', () => {
  const io = new (require('socket.io') as { Server: typeof Server }).Server()
  const options = { id: 'a', gateways: ['ws://127.0.0.1:1'] }
  expect(() => attachSocketIO({ bind: () => {} }, options)).toThrow(
    'no Socket.IO server of version 4.6 to 4.8',
  )
  expect(() => attachSocketIO(io, { ...options, quiesceMs: 9_000 })).toThrow('quiesceMs must be 0 to 4000')
  expect(() => attachSocketIO(io, { ...options, rooms: 'own' as never })).toThrow("rooms must be 'gateway'")
  const emitters = { redis: 'redis://127.0.0.1:1' }
  expect(() => attachSocketIO(io, { ...options, rooms: 'adapter', emitters })).toThrow('emitters reach')
  expect(() => attachSocketIO(io, { ...options, migrate: 'never' as never })).toThrow(
    "migrate must be 'drain'",
  )
})
