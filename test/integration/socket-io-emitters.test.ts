import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, type TestClient, until } from '../support/socket-io.ts'
import { emitterOf, startPlainServer } from '../support/socket-io-adapter.ts'

const serversHeard: string[] = []
const app = (io: Server, id: string) => {
  io.on('connection', (socket) => {
    if (!socket.recovered) void socket.join('all')
  })
  io.of('/second').on('connection', () => {})
  io.on('servers', (n: number) => serversHeard.push(`${id} ${n}`))
}

function listen(client: TestClient): unknown[] {
  const words: unknown[] = []
  client.on('heard', (word) => words.push(word))
  return words
}

async function world() {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const gateways = [await startTestGateway(), await startTestGateway()]
  const nodes = []
  for (const id of ['a', 'b', 'c'])
    nodes.push(await startSocketIoNode(gateways, app, { id, emitters: { redis: redis.url } }))
  for (const { operator } of gateways)
    await until(() => operator.nodes().filter(({ health }) => health === 'healthy').length === 3)
  const clients: TestClient[] = []
  for (let i = 0; i < 6; i++) clients.push(await connectClient(gateways[i % 2]!))
  return { redis, gateways, nodes, clients, emitter: emitterOf(redis) }
}

test('what emitters publish reaches each socket once, at all gateways and with all nodes', async () => {
  const { clients, emitter, nodes } = await world()
  const second = clients[0]!.io.socket('/second')
  await until(() => second.connected)
  const heard = [...clients.map(listen), listen(second as TestClient)]
  for (let n = 0; n < 50; n++) emitter.to('all').emit('heard', n)
  for (let n = 0; n < 3; n++) emitter.volatile.to(clients[0]!.id!).emit('heard', 'the same')
  emitter.to(clients[1]!.id!).emit('heard', { binary: [Buffer.from('you')] })
  emitter.except([clients[0]!.id!, clients[1]!.id!]).emit('heard', 'the others')
  emitter.of('/second').emit('heard', 'second')
  emitter.in(clients[2]!.id!).socketsJoin(['one', 'two'])
  emitter.to('one').to('two').emit('heard', 'once')
  emitter.in('one').socketsLeave('one')
  emitter.to('one').emit('heard', 'nobody')
  emitter.emit('heard', 'end')
  await until(() => heard.slice(0, 6).every((words) => words.at(-1) === 'end'))
  await until(() => heard[6]!.length === 1)
  const numbers = Array.from({ length: 50 }, (_, n) => n)
  for (const words of heard.slice(0, 6)) expect(words.slice(0, 50)).toEqual(numbers)
  expect(heard.map((words) => words.filter((word) => typeof word !== 'number'))).toEqual([
    ['the same', 'the same', 'the same', 'end'],
    [{ binary: [Buffer.from('you')] }, 'end'],
    ['the others', 'once', 'end'],
    ['the others', 'end'],
    ['the others', 'end'],
    ['the others', 'end'],
    ['second'],
  ])
  const [socket] = await nodes[0]!.io.in(clients[2]!.id!).fetchSockets()
  expect(socket!.rooms).toEqual(new Set([clients[2]!.id, 'all', 'two']))
  emitter.in('two').disconnectSockets(true)
  await until(() => clients[2]!.losses.length === 1)
  expect(clients.map(({ losses }) => losses.length)).toEqual([0, 0, 1, 0, 0, 0])
  serversHeard.length = 0
  emitter.serverSideEmit('servers', 7)
  await until(() => serversHeard.length >= 3)
  expect(serversHeard.sort()).toEqual(['a 7', 'b 7', 'c 7'])
})

test('servers with @socket.io/redis-adapter are heard too, and what is no message of theirs is dropped', async () => {
  const { redis, clients } = await world()
  const heard = clients.map(listen)
  for (const junk of [
    '',
    'no message',
    '{"type":2}',
    '{"type":2,"opts":7,"rooms":8}',
    '{"type":6,"data":7}',
  ]) {
    await redis.command('PUBLISH', 'socket.io#/#', junk)
    await redis.command('PUBLISH', 'socket.io-request#/#', junk)
  }
  // It would die of that itself.
  const plain = await startPlainServer(redis, app, { id: 'plain' })
  plain.io.to('all').emit('heard', 1)
  plain.io.in(clients[0]!.id!).socketsJoin('room')
  plain.io.to('room').emit('heard', 2)
  await until(() => heard[0]!.length === 2 && heard.every((words) => words.length >= 1))
  expect(heard).toEqual([[1, 2], [1], [1], [1], [1], [1]])
})

test('what is too large is an error of who emits it, and costs nobody a link', async () => {
  const { nodes, clients } = await world()
  const [{ io }] = nodes as [(typeof nodes)[0]]
  const words = listen(clients[0]!)
  const large = 'x'.repeat(1024 * 1024)
  expect(() => io.emit('heard', large)).toThrow('a message has at most')
  expect(() => io.timeout(10).emit('heard', large, () => {})).toThrow('a message has at most')
  expect(() =>
    io.emit(
      'heard',
      Array.from({ length: 65 }, () => Buffer.alloc(1)),
    ),
  ).toThrow('attachments')
  io.emit('heard', 'end')
  await until(() => words.length === 1)
  expect(words).toEqual(['end'])
})
