import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { RedisServer } from '../support/redis.ts'
import {
  connectClient,
  type SocketIoNode,
  startSocketIoNode,
  type TestClient,
  until,
} from '../support/socket-io.ts'

const app = (io: Server, id: string) => {
  io.on('connection', (socket) => {
    if (!socket.recovered) void socket.join('all')
    socket.data.name = socket.handshake.auth.name
    socket.on('where', (answer) => answer(id))
    socket.on('others', (word) => socket.broadcast.emit('heard', word))
  })
  io.on('ping all', (n: number, answer: (answer: string) => void) => answer(`${id} ${n}`))
}

type World = { gateways: TestGateway[]; nodes: SocketIoNode[]; clients: TestClient[] }

async function world(redis?: string): Promise<World> {
  const gateways = [
    await startTestGateway(redis === undefined ? {} : { redis }),
    await startTestGateway(redis === undefined ? {} : { redis }),
  ]
  const nodes: SocketIoNode[] = []
  for (const id of ['a', 'b'])
    nodes.push(await startSocketIoNode(gateways, app, { id, ...(redis === undefined ? {} : { redis }) }))
  await until(() =>
    gateways.every(
      ({ operator }) => operator.nodes().filter(({ health }) => health === 'healthy').length === 2,
    ),
  )
  const clients: TestClient[] = []
  for (let i = 0; i < 6; i++) clients.push(await connectClient(gateways[i % 2]!, { auth: { name: `c${i}` } }))
  return { gateways, nodes, clients }
}

test.each(['nodes that know both gateways', 'gateways and nodes that meet in Redis'])(
  'rooms span gateways and nodes: %s',
  async (kind) => {
    let url: string | undefined
    if (kind.includes('Redis')) {
      const redis = await RedisServer.start()
      onTestFinished(() => redis.stop())
      url = redis.url
    }
    const { gateways, nodes, clients } = await world(url)
    const heard = clients.map((client) => {
      const words: unknown[] = []
      client.on('heard', (word) => words.push(word))
      client.on('vote', (n: number, answer: (name: string) => void) => answer(`${client.id} ${n}`))
      return words
    })
    const [a, b] = nodes as [SocketIoNode, SocketIoNode]
    const places = await Promise.all(clients.map((client) => client.emitWithAck('where')))
    expect(new Set(places)).toEqual(new Set(['a', 'b']))
    for (let n = 0; n < 50; n++) a.io.to('all').emit('heard', n)
    b.io.to(clients[0]!.id!).to(clients[1]!.id!).emit('heard', 'two')
    b.io.except([clients[2]!.id!, clients[3]!.id!]).emit('heard', 'not those')
    await until(() => heard.flat().length === 6 * 50 + 2 + 4)
    clients[5]!.emit('others', 'from five')
    await until(() => heard.flat().length === 6 * 50 + 2 + 4 + 5)
    const numbers = Array.from({ length: 50 }, (_, n) => n)
    for (const words of heard) expect(words.filter((word) => typeof word === 'number')).toEqual(numbers)
    expect(heard.map((words) => words.includes('two'))).toEqual([true, true, false, false, false, false])
    expect(heard.map((words) => words.includes('from five'))).toEqual([true, true, true, true, true, false])

    const sockets = await b.io.in('all').fetchSockets()
    expect(sockets.map(({ data }) => data.name).sort()).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5'])
    const votes = (await a.io.timeout(10_000).emitWithAck('vote', 1)) as string[]
    expect(votes.sort()).toEqual(clients.map(({ id }) => `${id} 1`).sort())
    expect(await a.io.serverSideEmitWithAck('ping all', 3)).toEqual(['b 3'])

    a.io.in(clients[4]!.id!).socketsJoin('few')
    a.io.to('few').emit('heard', 'few')
    await until(() => heard[4]!.includes('few'))
    const migrations = new Migrations(gateways[0]!)
    const { id, node } = gateways[0]!.operator.sessions({}).sessions.find(({ address }) => address !== '')!
    expect((await migrations.start(id, node === 'a' ? 'b' : 'a')).outcome).toBe('moved')
    a.io.to('all').emit('heard', 'after the move')
    await until(() => heard.every((words) => words.includes('after the move')))
    b.io.in('few').disconnectSockets()
    await until(() => clients[4]!.losses.length === 1)
    expect(clients.map(({ losses }) => losses.length)).toEqual([0, 0, 0, 0, 1, 0])
  },
)

test('io.close() ends its sessions and its node: clients come back at the others', async () => {
  const gateway = await startTestGateway()
  const first = await startSocketIoNode([gateway], app, { id: 'a' })
  const client = await connectClient(gateway, { reconnection: true, reconnectionDelay: 10 })
  expect(await client.emitWithAck('where')).toBe('a')
  await startSocketIoNode([gateway], app, { id: 'b' })
  await first.io.close()
  await until(() => client.idsSeen.length === 2)
  expect(client.losses).toEqual(['transport close'])
  expect(await client.emitWithAck('where')).toBe('b')
})
