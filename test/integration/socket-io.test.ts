import type { Server } from 'socket.io'
import { expect, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { Recorder } from '../support/recorder.ts'
import { clientOf, connectClient, type ServerSocket, startSocketIoNode, until } from '../support/socket-io.ts'

async function one(app: (io: Server) => void) {
  const gateway = await startTestGateway()
  const node = await startSocketIoNode([gateway], app, { id: 'a' })
  return { gateway, node, io: node.io }
}

const talk = (io: Server) => {
  io.on('connection', (socket) => {
    socket.on('echo', (...args) => {
      const answer = args.pop() as (...args: unknown[]) => void
      answer(...args)
    })
    socket.on('ask', (answer) => socket.emit('question', 21, answer))
    socket.on('transport', (answer) => answer(socket.conn.transport.name))
  })
}

test.each([
  ['polling', ['polling']],
  ['websocket', ['websocket']],
  ['polling, upgraded', ['polling', 'websocket']],
])('%s: events, acknowledgements both ways, binary', async (_name, transports) => {
  const { gateway } = await one(talk)
  const client = await connectClient(gateway, { transports })
  expect(await client.emitWithAck('echo', 1)).toBe(1)
  expect(await client.emitWithAck('echo', { a: Buffer.from('yes'), b: [Buffer.alloc(70_000, 7)] })).toEqual({
    a: Buffer.from('yes'),
    b: [Buffer.alloc(70_000, 7)],
  })
  client.on('question', (n: number, answer: (n: number) => void) => answer(n * 2))
  expect(await client.emitWithAck('ask')).toBe(42)
  const last = transports.at(-1)
  await until(() => client.io.engine.transport.name === last)
  let seen: unknown
  await until(async () => {
    seen = await client.emitWithAck('transport')
    return seen === last
  })
  expect(seen).toBe(last)
  expect(client.losses).toEqual([])
})

test('namespaces, of which some are made when they are needed, with middlewares and data', async () => {
  const { gateway } = await one((io) => {
    io.of(/^\/room-\w+$/).on('connection', (socket) => {
      socket.on('where', (answer) => answer(socket.nsp.name))
    })
    io.of('/admin').use((socket, next) => {
      if (socket.handshake.auth.token !== 'secret') return next(new Error('no entry'))
      socket.data.role = 'admin'
      next()
    })
    io.of('/admin').on('connection', (socket) => {
      socket.on('role', (answer) => answer(socket.data.role))
    })
  })
  const room = await connectClient(gateway, {}, '/room-7')
  expect(await room.emitWithAck('where')).toBe('/room-7')
  const admin = await connectClient(gateway, { auth: { token: 'secret' } }, '/admin')
  expect(await admin.emitWithAck('role')).toBe('admin')
  for (const [namespace, message] of [
    ['/admin', 'no entry'],
    ['/nowhere', 'Invalid namespace'],
    [`/room-${'x'.repeat(300)}`, 'Invalid namespace'],
  ] as const) {
    const errors = new Recorder<string>()
    const refused = clientOf(gateway, {}, namespace)
    refused.on('connect_error', (error) => errors.add(error.message))
    await until(() => errors.items.length >= 1)
    expect(errors.items).toEqual([message])
  }
  expect([room.losses, admin.losses]).toEqual([[], []])
})

test('the handshake is that of the real client', async () => {
  const seen: ServerSocket['handshake'][] = []
  const { gateway } = await one((io) => io.on('connection', ({ handshake }) => seen.push(handshake)))
  await connectClient(gateway, {
    auth: { token: 'abc' },
    query: { a: '1 2' },
    extraHeaders: { 'x-who': 'me' },
  })
  await until(() => seen.length === 1)
  expect(seen[0]).toMatchObject({ address: '127.0.0.1', auth: { token: 'abc' }, secure: false })
  expect(seen[0]!.headers['x-who']).toBe('me')
  expect(seen[0]!.query).toMatchObject({ a: '1 2', EIO: '4' })
  expect(seen[0]!.url).toContain('/socket.io/?')
})

test('rooms: unions, exceptions, one socket, and what sockets send to others', async () => {
  const { gateway, io } = await one((server) => {
    server.on('connection', (socket) => {
      socket.on('join', async (rooms, answer) => answer(await socket.join(rooms)))
      socket.on('leave', (room, answer) => answer(void socket.leave(room)))
      socket.on('shout', (room) => socket.to(room).emit('heard', 'shout'))
      socket.on('broadcast', () => socket.broadcast.emit('heard', 'broadcast'))
    })
  })
  const clients = await Promise.all([1, 2, 3, 4].map(() => connectClient(gateway)))
  const heard = clients.map((client) => {
    const words = new Recorder<unknown>()
    client.on('heard', (word) => words.add(word))
    return words
  })
  const [a, b, c, d] = clients as [(typeof clients)[0], ...typeof clients]
  await a.emitWithAck('join', ['x', 'y'])
  await b!.emitWithAck('join', ['y', 7])
  await c!.emitWithAck('join', 'z')
  io.to('x').to('y').emit('heard', 1)
  io.to('y').except('x').emit('heard', 2)
  io.to(d!.id!).emit('heard', 3)
  io.emit('heard', Buffer.from('4'))
  io.to(7 as never).emit('heard', 5)
  io.to('7').emit('heard', 'nobody')
  a.emit('shout', 'y')
  await until(() => heard[1]!.items.includes('shout'))
  d!.emit('broadcast')
  await until(() => heard.reduce((sum, { items }) => sum + items.length, 0) === 13)
  await a.emitWithAck('leave', 'x')
  // No names, but Socket.IO takes them.
  await a.emitWithAck('join', [null])
  io.to(null as never).emit('heard', 'nowhere')
  const long = 'x'.repeat(100_000)
  const many = Array.from({ length: 500 }, (_, i) => `${i} `.padEnd(300, 'y'))
  await a.emitWithAck('join', [long, ...many])
  io.to(long).emit('heard', 'long')
  io.to(many).emit('heard', 'many')
  io.to('x').emit('heard', 'nobody')
  io.emit('heard', 'end')
  await until(() => heard.every(({ items }) => items.at(-1) === 'end'))
  const four = Buffer.from('4')
  expect(heard.map(({ items }) => items)).toEqual([
    [1, four, 'broadcast', 'nowhere', 'long', 'many', 'end'],
    [1, 2, four, 5, 'shout', 'broadcast', 'end'],
    [four, 'broadcast', 'end'],
    [3, four, 'end'],
  ])
})

test('what a server sends to one and to all keeps its order', async () => {
  const { gateway, io } = await one((server) => {
    server.on('connection', (socket) => {
      socket.on('go', () => {
        for (let i = 0; i < 300; i += 3) {
          socket.emit('n', i)
          server.emit('n', i + 1)
          server.to(socket.id).emit('n', i + 2)
        }
      })
    })
  })
  expect(io.engine.clientsCount).toBe(0)
  const client = await connectClient(gateway, { transports: ['websocket'] })
  const numbers = new Recorder<number>()
  client.on('n', (n) => numbers.add(n))
  client.emit('go')
  await until(() => numbers.items.length >= 300)
  expect(numbers.items).toEqual(Array.from({ length: 300 }, (_, i) => i))
  expect(io.engine.clientsCount).toBe(1)
})

test('fetchSockets, socketsJoin, socketsLeave, disconnectSockets, broadcast acknowledgements', async () => {
  const { gateway, io } = await one((server) => {
    server.on('connection', (socket) => {
      socket.data.name = socket.handshake.auth.name
    })
  })
  const clients = await Promise.all(
    ['ann', 'bob', 'cy'].map((name) => connectClient(gateway, { auth: { name } })),
  )
  const names = async (room: string) => {
    const sockets = await io.in(room).fetchSockets()
    return sockets.map(({ data }) => data.name).sort()
  }
  io.in([clients[0]!.id!, clients[1]!.id!]).socketsJoin('pair')
  expect(await names('pair')).toEqual(['ann', 'bob'])
  io.in(clients[0]!.id!).socketsLeave('pair')
  expect(await names('pair')).toEqual(['bob'])
  expect((await io.allSockets()).size).toBe(3)
  for (const [i, client] of clients.entries())
    client.on('vote', (n: number, answer: (n: number) => void) => answer(n + i))
  expect((await io.timeout(5_000).emitWithAck('vote', 10)).sort()).toEqual([10, 11, 12])
  expect(await io.in(clients[1]!.id!).timeout(5_000).emitWithAck('vote', 20)).toEqual([21])
  io.in('pair').disconnectSockets(true)
  await until(() => clients[1]!.losses.length === 1)
  expect(clients.map(({ losses }) => losses)).toEqual([[], ['io server disconnect'], []])
  expect((await io.fetchSockets()).length).toBe(2)
})

test('each side hears why the other has left', async () => {
  const reasons = new Recorder<string>()
  const { gateway } = await one((io) => {
    io.on('connection', (socket) => {
      socket.on('disconnect', (reason) => reasons.add(reason))
      socket.on('kick', (close) => socket.disconnect(close))
    })
  })
  const leaves = await connectClient(gateway, { transports: ['websocket'] })
  leaves.disconnect()
  await until(() => reasons.items.length >= 1)
  const breaks = await connectClient(gateway, { transports: ['websocket'] })
  breaks.io.engine.close()
  await until(() => reasons.items.length >= 2)
  for (const close of [false, true]) {
    const kicked = await connectClient(gateway)
    kicked.emit('kick', close)
    await until(() => kicked.losses.length === 1)
    expect(kicked.losses).toEqual(['io server disconnect'])
  }
  await until(() => reasons.items.length >= 4)
  expect(reasons.items).toEqual([
    'client namespace disconnect',
    'transport close',
    'server namespace disconnect',
    'server namespace disconnect',
  ])
})

test('volatile messages are dropped where the client does not listen, the others are not', async () => {
  const { gateway } = await one((io) => {
    io.on('connection', (socket) => {
      socket.on('go', () => {
        for (let i = 0; i < 50; i++) socket.volatile.emit('maybe', i)
        for (let i = 0; i < 50; i++) io.volatile.emit('maybe', i)
        for (let i = 0; i < 50; i++) socket.emit('surely', i)
      })
    })
  })
  const client = await connectClient(gateway, { transports: ['polling'] })
  const maybe = new Recorder<number>()
  const surely = new Recorder<number>()
  client.on('maybe', (n) => maybe.add(n))
  client.on('surely', (n) => surely.add(n))
  client.emit('go')
  await until(() => surely.items.length >= 50)
  expect(surely.items).toEqual(Array.from({ length: 50 }, (_, i) => i))
  expect(maybe.items.length).toBeLessThan(50)
})

test('without a node a client is told to come again, and metrics know the transport', async () => {
  const gateway = await startTestGateway()
  const response = await fetch(`${gateway.httpUrl}/socket.io/?EIO=4&transport=polling`)
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).not.toBeNull()
  const unknown = await fetch(`${gateway.httpUrl}/socket.io/?EIO=4&transport=polling&sid=nobody`)
  expect([unknown.status, await unknown.json()]).toEqual([400, { code: 1, message: 'Session ID unknown' }])
  const foreign = await fetch(`${gateway.httpUrl}/socket.io/?EIO=4&transport=polling`, {
    headers: { origin: 'https://elsewhere.example' },
  })
  expect(foreign.status).toBe(403)
  await startSocketIoNode([gateway], talk, { id: 'a' })
  await connectClient(gateway)
  expect(gateway.operator.counters.connections).toEqual({
    websocket: 0,
    sse: 0,
    'socket.io': 1,
    'engine.io': 0,
    tcp: 0,
  })
  const metrics = await fetch(`${gateway.internalUrl}/metrics`)
  expect(await metrics.text()).toMatch(/evenkeel_connections\{transport="socket.io"\} 1/)
})

test('bytes that are no Socket.IO close the client, and the node goes on', async () => {
  const { gateway } = await one(talk)
  const client = await connectClient(gateway, { transports: ['websocket'] })
  const other = await connectClient(gateway)
  client.io.engine.write(Buffer.from([0, 0, 0, 0, 0x7b, 0x7d]))
  await until(() => client.losses.length === 1)
  expect(await other.emitWithAck('echo', 'still here')).toBe('still here')
})

test('a client that does not read is closed before much is kept for it, the others go on', async () => {
  const reasons = new Recorder<string>()
  const { gateway, io } = await one((server) => {
    server.on('connection', (socket) => {
      socket.on('disconnect', (reason) => reasons.add(reason))
    })
  })
  const slow = await connectClient(gateway, { transports: ['websocket'] })
  const fast = await connectClient(gateway, { transports: ['websocket'] })
  const got = new Recorder<number>()
  fast.on('bulk', (n) => got.add(n))
  const { ws } = slow.io.engine.transport as unknown as { ws: { pause(): void } }
  ws.pause()
  const bulk = Buffer.alloc(64 * 1024)
  let sent = 0
  while (reasons.items.length === 0 && sent < 2_000) {
    io.to(slow.id!).emit('bulk', sent, bulk)
    io.sockets.sockets.get(slow.id!)?.emit('bulk', sent, bulk)
    io.sockets.sockets.get(fast.id!)!.emit('bulk', sent++)
    await new Promise(setImmediate)
  }
  expect(sent).toBeLessThan(2_000)
  expect(gateway.operator.counters.slowConsumers.close).toBeGreaterThan(0)
  await until(() => got.items.length === sent)
  expect(fast.losses).toEqual([])
})
