import { expect, onTestFinished, test, vi } from 'vitest'
import { WebSocketServer } from 'ws'
import { Gateway } from '../../src/gateway/gateway.ts'
import { frame, handshake, RawConnection } from '../attacks/wire.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'

const local = 'Host: 127.0.0.1'

/** In which turn of the event loop each WebSocket of this process is answered, and each session begins, from now on. */
function watchTurns(): { answered: readonly number[]; begun: readonly number[] } {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const answered: number[] = []
  const { handleUpgrade } = WebSocketServer.prototype
  const upgrades = vi.spyOn(WebSocketServer.prototype, 'handleUpgrade').mockImplementation(function (
    this: WebSocketServer,
    ...args
  ) {
    answered.push(turn)
    handleUpgrade.apply(this, args)
  })
  const begun: number[] = []
  const { createSession } = Gateway.prototype
  const sessions = vi.spyOn(Gateway.prototype, 'createSession').mockImplementation(function (
    this: Gateway,
    ...args
  ) {
    begun.push(turn)
    return createSession.apply(this, args)
  } as typeof createSession)
  onTestFinished(() => {
    clearImmediate(counting)
    upgrades.mockRestore()
    sessions.mockRestore()
  })
  return { answered, begun }
}

const engineIo = '/engine.io/?EIO=4&transport=websocket'

test.each([
  ['WebSockets', handshake('/ws'), '101 Switching', 16],
  ['Engine.IO clients', handshake(engineIo), '"sid":', 16],
  ['SSE streams', `GET /sse HTTP/1.1\r\n${local}\r\nAccept: text/event-stream\r\n\r\n`, '"token":"', 0],
])('%s that come at once are answered and opened one a turn', async (_, request, begun, answers) => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const clients = Array.from({ length: 16 }, () => new RawConnection(gateway.publicPort))
  onTestFinished(() => {
    for (const client of clients) client.drop()
  })
  const answer = async (text: string, end: string) => {
    for (const client of clients) client.write(text)
    await Promise.all(clients.map((client) => client.until(() => client.received.includes(end))))
  }
  // Whatever they ask for first: connections are taken one a turn, requests of those that are there all at once.
  await answer(`GET /healthz HTTP/1.1\r\n${local}\r\n\r\n`, '{"status":"ok"}')
  const turns = watchTurns()
  await answer(request, begun)
  await expect.poll(() => turns.begun.length).toBe(clients.length)
  expect(turns.answered.length).toBe(answers)
  expect(new Set([...turns.answered, ...turns.begun]).size).toBe(clients.length + answers)
})

test.each([
  ['a WebSocket', '/ws', 'hello', 'hello'],
  ['an Engine.IO client', engineIo, '4hello', '4hello'],
])('what %s sends before it is answered is not lost', async (_, path, said, heard) => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const client = new RawConnection(gateway.publicPort)
  onTestFinished(() => client.drop())
  client.write(Buffer.concat([Buffer.from(handshake(path)), frame(Buffer.from(said), 0x81)]))
  await client.until(() =>
    client.received.includes(`\x81${String.fromCharCode(heard.length)}${heard}`, 0, 'latin1'),
  )
})
