import { once } from 'node:events'
import { Socket } from 'engine.io-client'
import { expect, onTestFinished, test } from 'vitest'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'
import { authBy, issuerOf } from '../support/tokens.ts'

/** Ways around limits that look like those of somebody who is in already (docs/limits.md). */

test.each([[['polling']], [['polling', 'websocket']], [['websocket']]])(
  'a session of Engine.IO is a connection for as long as it lives: %j',
  async (transports) => {
    const gateway = await startTestGateway({ rateLimits: { perIp: { connections: 2 } } as never })
    await startTestNode(gateway, echo)
    const attempt = async (): Promise<Socket | null> => {
      const socket = new Socket(gateway.httpUrl, { path: '/engine.io/', transports })
      onTestFinished(() => void socket.close())
      const opened = await new Promise((resolve) => {
        socket.on('open', () => resolve(true))
        socket.on('error', () => resolve(false))
      })
      if (opened !== true) return null
      if (transports.length > 1) await new Promise<void>((resolve) => socket.on('upgrade', () => resolve()))
      // An answer: nothing of the handshake is under way any more.
      socket.send('hello')
      await once(socket as never, 'message')
      return socket
    }
    const first = await attempt()
    expect([first, await attempt(), await attempt()]).toEqual([expect.any(Socket), expect.any(Socket), null])
    first!.close()
    await expect.poll(attempt).not.toBeNull()
  },
)

test('under overload who comes back to nothing is as new', async () => {
  const overload = { maxHeapShare: 0.001, seconds: 1, recoverSeconds: 60 }
  const gateway = await startTestGateway({ overload: overload as never })
  const opened: string[] = []
  await startTestNode(gateway, { open: ({ id }) => void opened.push(id) })
  const ready = async () => (await fetch(`${gateway.httpUrl}/readyz`)).status
  await expect.poll(ready, { timeout: 10_000 }).toBe(503)
  const headers = { 'last-event-id': 'nonsense' }
  const signal = AbortSignal.timeout(3_000)
  const said = await (await fetch(`${gateway.httpUrl}/sse`, { headers, signal })).text()
  expect(said).toContain('retry: ')
  expect(said).not.toContain('event: session')
  expect(opened).toEqual([])
})

test("posts that show a session's token alone are messages of its user", async () => {
  const issuer = await issuerOf('HS256')
  const [auth, tokens] = authBy(issuer, {})
  const perUser = { messages: { perSecond: 0.01, burst: 2 } }
  const gateway = await startTestGateway({ ...auth, rateLimits: { perUser } as never }, tokens)
  await startTestNode(gateway, echo)
  const headers = { authorization: `Bearer ${await issuer.sign()}` }
  const statuses: number[] = []
  for (let n = 0; n < 3; n++) {
    const stream = await SseStream.open(gateway.httpUrl, { headers })
    statuses.push((await postTo(gateway.httpUrl, await stream.session(), 'x')).status)
  }
  expect(statuses).toEqual([202, 202, 429])
})
