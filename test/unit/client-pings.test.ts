import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { ClientPings } from '../../src/edge/client-pings.ts'
import { frame, openSocket } from '../attacks/wire.ts'

/** The port of a server that answers pings so. */
async function startServer(perSecond: number): Promise<number> {
  const pings = new ClientPings(perSecond)
  const sockets = new WebSocketServer({ noServer: true, autoPong: false })
  const server = createServer()
  server.on('upgrade', (request, socket, head) =>
    sockets.handleUpgrade(request, socket, head, (ws) => pings.watch(ws)),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const ws of sockets.clients) ws.terminate()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

const ping = (text: string) => frame(text, 0x89)

test('pings that come together get one answer, that of the last one; those that come later theirs', async () => {
  const client = await openSocket(await startServer(10))
  client.write(Buffer.concat(['a', 'b', 'c'].map(ping)))
  expect(await client.frame()).toEqual({ opcode: 10, payload: Buffer.from('c') })
  client.write(ping('d'))
  expect(await client.frame()).toEqual({ opcode: 10, payload: Buffer.from('d') })
  client.drop()
})

test('a flood of pings gets 1008 and no answer', async () => {
  const client = await openSocket(await startServer(10))
  client.write(Buffer.concat(Array.from({ length: 11 }, () => ping('x'))))
  const { opcode, payload } = await client.frame()
  expect([opcode, payload.readUInt16BE(0), payload.toString('utf8', 2)]).toEqual([8, 1008, 'too many pings'])
  client.drop()
})

test('who is told to leave is told so once, and not heard any more', () => {
  const told: unknown[] = []
  const ws = Object.assign(new EventEmitter(), {
    readyState: 1,
    close(code: number) {
      told.push(code)
      ws.readyState = 2
    },
    terminate() {},
  })
  new ClientPings(10).watch(ws as unknown as WebSocket)
  for (let i = 0; i < 1_000; i++) ws.emit('ping', Buffer.from('x'))
  expect(told).toEqual([1008])
  expect(ws.listenerCount('ping')).toBe(0)
})

test('while an answer waits to be sent no other is made; then the last ping gets one', async () => {
  const sent: { data: string; taken: () => void }[] = []
  const ws = Object.assign(new EventEmitter(), {
    readyState: 1,
    pong: (data: Buffer, _mask: boolean, taken: () => void) => sent.push({ data: data.toString(), taken }),
  })
  const nextTurn = () => new Promise((resolve) => setImmediate(resolve))
  new ClientPings(10).watch(ws as unknown as WebSocket)
  for (const text of ['a', 'b', 'c']) {
    ws.emit('ping', Buffer.from(text))
    await nextTurn()
  }
  expect(sent.map(({ data }) => data)).toEqual(['a'])
  sent[0]!.taken()
  await nextTurn()
  expect(sent.map(({ data }) => data)).toEqual(['a', 'c'])
})
