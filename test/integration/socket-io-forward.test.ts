import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { EngineIoForwarder } from '../../src/edge/engine-io-forward.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, until } from '../support/socket-io.ts'

/** Gives each connection to the next gateway, as a balancer without sticky sessions does. */
async function balancer(gateways: readonly TestGateway[]) {
  const counts = gateways.map(() => 0)
  let next = 0
  const server = createServer((client) => {
    const index = next++ % gateways.length
    counts[index]!++
    const peer = connect(gateways[index]!.publicPort, '127.0.0.1')
    client.pipe(peer).pipe(client)
    client.on('error', () => peer.destroy())
    peer.on('error', () => client.destroy())
    client.on('close', () => peer.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return { httpUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, counts }
}

const app = (io: Server) => {
  io.on('connection', (socket) => {
    socket.on('echo', (blob: Buffer, answer) => answer(blob, socket.conn.transport.name))
  })
}

async function cluster(tokens: object = {}) {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const gateways = [
    await startTestGateway({ redis: redis.url }, tokens),
    await startTestGateway({ redis: redis.url }, tokens),
    await startTestGateway({ redis: redis.url }, tokens),
  ]
  await startSocketIoNode([], app, { id: 'a', redis: redis.url })
  await until(() =>
    gateways.every(({ operator }) => operator.gateways().length === 3 && operator.nodes().length === 1),
  )
  return { gateways, redis }
}

test.each([
  ['polling', ['polling'], {}],
  ['polling, upgraded', ['polling', 'websocket'], { adminToken: 'secret-of-the-gateways' }],
])('no sticky sessions are needed: %s', async (_name, transports, tokens) => {
  const { gateways } = await cluster(tokens)
  const { httpUrl, counts } = await balancer(gateways)
  const clients = await Promise.all([1, 2, 3, 4, 5].map(() => connectClient({ httpUrl }, { transports })))
  for (let i = 0; i < 10; i++) {
    for (const client of clients) {
      const blob = Buffer.alloc(10_000, i)
      expect(await new Promise((resolve) => client.emit('echo', blob, resolve))).toEqual(blob)
    }
  }
  await until(() => clients.every(({ io }) => io.engine.transport.name === transports.at(-1)))
  for (const client of clients)
    expect(await client.emitWithAck('echo', Buffer.from('x'))).toEqual(Buffer.from('x'))
  expect(clients.flatMap(({ losses }) => losses)).toEqual([])
  expect(Math.min(...counts)).toBeGreaterThan(0)
})

test('a client that resets its connection while the owner has not answered harms nobody', async () => {
  const connected = Promise.withResolvers<void>()
  const reset = Promise.withResolvers<void>()
  const owner = createServer((socket) => {
    connected.resolve()
    socket.on('error', () => {})
    socket.resume().on('close', () => reset.resolve())
  })
  const front = createHttpServer()
  for (const server of [owner, front]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
  }
  const port = (server: { address(): unknown }) => (server.address() as AddressInfo).port
  const forwarder = new EngineIoForwarder({ id: 'x' } as never, null)
  onTestFinished(() => forwarder.close())
  front.on('upgrade', (request, socket, head) =>
    forwarder.upgrade(new URL(`http://127.0.0.1:${port(owner)}`), request, socket as Socket, head),
  )
  const client = connect(port(front), '127.0.0.1')
  client.write(
    'GET /socket.io/?EIO=4&transport=websocket&sid=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  )
  await connected.promise
  client.resetAndDestroy()
  await reset.promise
})

test('a session of a gateway that is gone is unknown, and nobody but gateways is let in behind', async () => {
  const { gateways } = await cluster({ adminToken: 'secret-of-the-gateways' })
  const [first, second] = gateways as [TestGateway, TestGateway]
  const path = '/socket.io/?EIO=4&transport=polling'
  const opened = (await (await fetch(`${first.httpUrl}${path}`)).text()).slice(1)
  const { sid } = JSON.parse(opened) as { sid: string }
  expect(sid).toMatch(/^[\w-]{8}\.[\w-]{24}$/)
  const direct = await fetch(`${first.internalUrl}${path}&sid=${sid}`)
  expect(direct.status).toBe(401)
  expect((await fetch(`${second.httpUrl}${path}&sid=${sid}`, { method: 'POST', body: '40' })).status).toBe(
    200,
  )
  await first.close()
  const gone = await fetch(`${second.httpUrl}${path}&sid=${sid}`)
  expect([gone.status, await gone.json()]).toEqual([400, { code: 1, message: 'Session ID unknown' }])
})

test('a gateway that has just begun finds the sessions of the others', async () => {
  const { gateways, redis } = await cluster()
  const query = 'EIO=4&transport=polling'
  const opened = await fetch(`${gateways[0]!.httpUrl}/socket.io/?${query}`)
  const { sid } = JSON.parse((await opened.text()).slice(1)) as { sid: string }
  const fresh = await startTestGateway({ redis: redis.url })
  const posted = await fetch(`${fresh.httpUrl}/socket.io/?${query}&sid=${sid}`, {
    method: 'POST',
    body: '40',
  })
  expect([posted.status, await posted.text()]).toEqual([200, 'ok'])
})
