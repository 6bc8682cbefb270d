import { expect, onTestFinished, test, vi } from 'vitest'
import { Gateway } from '../../src/gateway/gateway.ts'
import { handshake, RawConnection } from '../attacks/wire.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'

const local = 'Host: 127.0.0.1'

/** In which turn of the event loop each session of this process begins, from now on. */
function watchBeginnings(): readonly number[] {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const turns: number[] = []
  const { createSession } = Gateway.prototype
  const spy = vi.spyOn(Gateway.prototype, 'createSession').mockImplementation(function (
    this: Gateway,
    ...args
  ) {
    turns.push(turn)
    return createSession.apply(this, args)
  } as typeof createSession)
  onTestFinished(() => {
    clearImmediate(counting)
    spy.mockRestore()
  })
  return turns
}

test.each([
  ['WebSockets', handshake('/ws'), '101 Switching'],
  ['SSE streams', `GET /sse HTTP/1.1\r\n${local}\r\nAccept: text/event-stream\r\n\r\n`, '"token":"'],
])('%s that come at once are opened one a turn', async (_, request, begun) => {
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
  const turns = watchBeginnings()
  await answer(request, begun)
  expect(turns.length).toBe(clients.length)
  expect(new Set(turns).size).toBe(clients.length)
})
