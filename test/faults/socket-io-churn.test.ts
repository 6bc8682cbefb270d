import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import { expect, test } from 'vitest'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { createRandom } from '../support/random.ts'
import { connectClient, startSocketIoNode, until } from '../support/socket-io.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

/** Moves sessions at random until it is told to stop; returns how many moves were begun. */
function churn({ operator }: TestGateway, nodes: readonly string[]): { stop(): Promise<number> } {
  const random = createRandom(seed)
  let going = true
  let count = 0
  const done = (async () => {
    while (going) {
      for (const { id, node } of random.sample(operator.sessions({ limit: 100 }).sessions, 3)) {
        try {
          operator.migrate(id, random.pick(nodes.filter((other) => other !== node)))
          count++
        } catch {
          // It moves already, or has ended.
        }
      }
      await delay(1)
    }
  })()
  return {
    async stop() {
      going = false
      await done
      return count
    },
  }
}

test(`what is asked of all sockets finds each of them once, wherever it is (SEED=${seed})`, {
  timeout: 90_000,
}, async () => {
  const gateway = await startTestGateway()
  const app = (io: Server) => {
    io.on('connection', (socket) => {
      if (!socket.recovered) void socket.join('all')
    })
  }
  const nodes = await Promise.all(['a', 'b', 'c'].map((id) => startSocketIoNode([gateway], app, { id })))
  const clients = await Promise.all(
    Array.from({ length: 20 }, () => connectClient(gateway, { transports: ['websocket'] })),
  )
  const heard = clients.map((client) => {
    const numbers: number[] = []
    client.on('direct', (n: number) => numbers.push(n))
    client.on('vote', (n: number, answer: (n: number) => void) => setTimeout(answer, n % 5, n))
    return numbers
  })
  const moving = churn(gateway, ['a', 'b', 'c'])
  const sizes = new Set<number>()
  for (let n = 1; n <= 40; n++) {
    const { io } = nodes[n % 3]!
    const sockets = await io.in('all').fetchSockets()
    sizes.add(sockets.length).add(new Set(sockets.map(({ id }) => id)).size)
    sizes.add((await io.to('all').timeout(10_000).emitWithAck('vote', n)).length)
    for (const { id } of clients) nodes[0]!.io.to(id!).emit('direct', n)
    io.in(clients[0]!.id!).socketsJoin(`room ${n}`)
  }
  const moves = await moving.stop()
  await until(() => heard.every((numbers) => numbers.length === 40))
  expect([...sizes]).toEqual([20])
  for (const numbers of heard) expect(numbers).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
  const [socket] = await nodes[1]!.io.in(clients[0]!.id!).fetchSockets()
  expect(socket!.rooms.size).toBe(42)
  console.log(`seed ${seed}: ${moves} moves`)
  expect(moves).toBeGreaterThan(100)
  const again = churn(gateway, ['a', 'b', 'c'])
  nodes[2]!.io.in('all').disconnectSockets(true)
  await until(() => clients.every(({ losses }) => losses.length === 1))
  await again.stop()
})

test(`a client that leaves in the middle of a move leaves nothing behind (SEED=${seed})`, async () => {
  const random = createRandom(seed)
  const gateway = await startTestGateway()
  const counts = { connection: 0, disconnect: 0 }
  const app = (io: Server) => {
    io.on('connection', (socket) => {
      counts.connection++
      socket.on('disconnect', () => counts.disconnect++)
    })
  }
  const nodes = await Promise.all(
    ['a', 'b'].map((id) => startSocketIoNode([gateway], app, { id, ghostMs: 50 })),
  )
  for (let i = 0; i < 60; i++) {
    const client = await connectClient(gateway, { transports: ['websocket'] })
    const { id, node } = gateway.operator.sessions({}).sessions[0]!
    gateway.operator.migrate(id, node === 'a' ? 'b' : 'a')
    await delay(random.int(0, 5))
    client.disconnect()
    await until(() => gateway.operator.sessions({}).sessions.length === 0)
  }
  await until(() => counts.connection === counts.disconnect)
  for (const { io } of nodes) {
    expect(io.sockets.sockets.size).toBe(0)
    expect(io.sockets.adapter.sids.size).toBe(0)
    expect(io.engine.clientsCount).toBe(0)
    expect(
      (io.sockets as unknown as { _preConnectSockets: Map<string, unknown> })._preConnectSockets.size,
    ).toBe(0)
  }
})

test.each([
  ['drain', 0],
  ['always', 9],
] as const)("with migrate: '%s' a node that joins gets %i of 20 live sessions", async (migrate, share) => {
  const gateway = await startTestGateway()
  const first = await startSocketIoNode([gateway], () => {}, { id: 'a', migrate })
  const clients = await Promise.all(Array.from({ length: 20 }, () => connectClient(gateway)))
  const second = await startSocketIoNode([gateway], () => {}, { id: 'b', migrate })
  if (share > 0) await until(() => second.io.sockets.sockets.size >= share)
  else await delay(1_000)
  const [left, got] = [first.io.sockets.sockets.size, second.io.sockets.sockets.size]
  expect(left + got).toBe(20)
  if (share === 0) expect(got).toBe(0)
  expect(clients.flatMap(({ losses }) => losses)).toEqual([])
})

test('quiesceMs waits for handlers that have not acknowledged, so what they do to socket.data is not lost', async () => {
  const gateway = await startTestGateway()
  const app = (io: Server) => {
    io.on('connection', (socket) => {
      socket.on('add', async (answer) => {
        const before: number = socket.data.sum ?? 0
        await delay(30)
        socket.data.sum = before + 1
        answer(socket.data.sum)
      })
      socket.on('sum', (answer) => answer(socket.data.sum))
    })
  }
  for (const id of ['a', 'b']) await startSocketIoNode([gateway], app, { id, quiesceMs: 1_000 })
  const client = await connectClient(gateway)
  for (let n = 1; n <= 10; n++) {
    const added = client.emitWithAck('add')
    await client.timeout(5_000).emitWithAck('sum')
    const { id, node } = gateway.operator.sessions({}).sessions[0]!
    gateway.operator.migrate(id, node === 'a' ? 'b' : 'a')
    expect(await added).toBe(n)
    await until(() => gateway.operator.sessions({}).sessions[0]!.migrations === n)
    expect(await client.emitWithAck('sum')).toBe(n)
  }
})
