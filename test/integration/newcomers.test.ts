import { Socket as EngineSocket } from 'engine.io'
import { expect, onTestFinished, test, vi } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { Gateway } from '../../src/gateway/gateway.ts'
import { Session } from '../../src/gateway/session.ts'
import { Turn } from '../../src/gateway/turn.ts'
import { FrameSocket } from '../../src/link/frame-socket.ts'
import { frame, handshake, openSocket, RawConnection } from '../attacks/wire.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'

const local = 'Host: 127.0.0.1'

/** Calls back before each call of this method in this process. */
function spyOn(of: object, name: string, called: () => void) {
  const method: (...values: unknown[]) => unknown = Reflect.get(of, name)
  const spy = vi.spyOn(of as Record<string, typeof method>, name).mockImplementation(function (
    this: unknown,
    ...values
  ) {
    called()
    return method.apply(this, values)
  })
  onTestFinished(() => spy.mockRestore())
  return spy
}

/** In which turn of the event loop each of these is called in this process, from now on. */
function watchTurns<K extends string>(methods: Record<K, [of: object, name: string]>): Record<K, number[]> {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const turns = {} as Record<K, number[]>
  for (const [what, [of, name]] of Object.entries<[object, string]>(methods)) {
    const called: number[] = []
    turns[what as K] = called
    spyOn(of, name, () => called.push(turn))
  }
  onTestFinished(() => clearImmediate(counting))
  return turns
}

const engineIo = '/engine.io/?EIO=4&transport=websocket'

test.each([
  ['WebSockets', handshake('/ws'), '101 Switching', ['answered', 'begun']],
  ['Engine.IO clients', handshake(engineIo), '"sid":', ['answered', 'shaken', 'begun']],
  [
    'SSE streams',
    `GET /sse HTTP/1.1\r\n${local}\r\nAccept: text/event-stream\r\n\r\n`,
    '"token":"',
    ['begun'],
  ],
] as const)('%s that come at once are opened one a turn, in pieces', async (_, request, begun, pieces) => {
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
  const turns = watchTurns({
    answered: [WebSocketServer.prototype, 'handleUpgrade'],
    shaken: [EngineSocket.prototype, 'onOpen'],
    begun: [Gateway.prototype, 'createSession'],
  })
  await answer(request, begun)
  // Who is answered has a session.
  expect(turns.begun.length).toBe(clients.length)
  const own = pieces.flatMap((piece) => turns[piece])
  expect(own.length).toBe(clients.length * pieces.length)
  expect(new Set(own).size).toBe(own.length)
})

test('what is read of others leaves before a newcomer has its turn', async () => {
  const steps: string[] = []
  const seen = (step: string, of: object, name: string) => spyOn(of, name, () => steps.push(step))
  const next = seen('newcomer', Turn.prototype, 'next')
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const client = await openSocket(gateway.publicPort)
  onTestFinished(() => client.drop())
  const turn = next.mock.contexts[0] as Turn
  // In each turn of the loop one goes in.
  let isOver = false
  const pass = () => {
    if (!isOver) turn.next(pass)
  }
  onTestFinished(() => {
    isOver = true
  })
  pass()
  seen('read', Session.prototype, 'receive')
  seen('sent', FrameSocket.prototype, 'send')
  for (let i = 0; i < 20; i++) {
    client.write(frame('hello'))
    expect(await client.text()).toBe('hello')
  }
  const read = steps.flatMap((step, index) => (step === 'read' ? [steps[index + 1]] : []))
  expect(read).toEqual(Array(20).fill('sent'))
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

test('an Engine.IO client that breaks the protocol is told so in one turn, and ended in another', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const client = new RawConnection(gateway.publicPort)
  onTestFinished(() => client.drop())
  client.write(handshake(engineIo))
  await client.until(() => client.received.includes('"sid":'))
  await expect.poll(() => gateway.operator.sessions().sessions.length).toBe(1)
  const turns = watchTurns({
    told: [WebSocket.prototype, 'close'],
    ended: [Session.prototype, 'connectionClosed'],
  })
  // The opcode is none.
  client.write(frame(Buffer.from('x'), 0x83))
  await expect.poll(() => turns.ended.length).toBe(1)
  expect(turns.ended[0]).toBeGreaterThan(turns.told[0]!)
})
