import { once } from 'node:events'
import { IncomingMessage } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { attachWebSocketServer, type SessionRequest } from 'evenkeel/ws'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type ClientOptions, createWebSocketStream, WebSocket, WebSocketServer } from 'ws'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { type ConnectionHandler, quiet, startWsApp } from '../support/ws-app.ts'

async function connect(gateway: TestGateway, query = '', options: ClientOptions = {}): Promise<WebSocket> {
  const ws = new WebSocket(gateway.wsUrl + query, options)
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

/** One client and its connection at the application. */
async function pair(
  connection: ConnectionHandler = () => {},
  options: Parameters<typeof startWsApp>[2] = {},
  client: { query?: string; options?: ClientOptions } = {},
) {
  const gateway = await startTestGateway()
  const came = Promise.withResolvers<[WebSocket, SessionRequest]>()
  const app = await startWsApp(
    gateway,
    (ws, request) => {
      connection(ws, request)
      came.resolve([ws, request])
    },
    options,
  )
  const peer = await connect(gateway, client.query, client.options)
  const [ws, request] = await came.promise
  return { gateway, ...app, peer, ws, request }
}

async function closeOf(ws: WebSocket): Promise<[number, string]> {
  const [code, reason] = await once(ws, 'close')
  return [code, String(reason)]
}

describe('a connection', () => {
  test("is one of the application's own ws, open, and among the clients while it is", async () => {
    const { ws, wss, peer } = await pair()
    expect(ws).toBeInstanceOf(WebSocket)
    expect([ws.readyState, ws.OPEN, ws.bufferedAmount, ws.isPaused, ws.binaryType, ws.extensions]).toEqual([
      1,
      1,
      0,
      false,
      'nodebuffer',
      '',
    ])
    expect([...wss.clients]).toEqual([ws])
    peer.close(4321, 'enough')
    expect(await closeOf(ws)).toEqual([4321, 'enough'])
    expect([ws.readyState, wss.clients.size]).toEqual([3, 0])
  })

  test('takes the class that the server makes sockets of', async () => {
    class Own extends WebSocket {
      greet() {
        this.send('hello')
      }
    }
    const { peer } = await pair((ws) => setImmediate(() => (ws as Own).greet()), {
      server: { WebSocket: Own },
    })
    expect(String((await once(peer, 'message'))[0])).toBe('hello')
  })

  test("comes with the client's request", async () => {
    const headers = { 'X-Tenant': 'blue', Cookie: 'a=b' }
    const { request, ws } = await pair(undefined, {}, { query: '?room=7&x=%20', options: { headers } })
    expect(request).toBeInstanceOf(IncomingMessage)
    expect([request.method, request.url, request.socket.remoteAddress]).toEqual([
      'GET',
      '/ws?room=7&x=%20',
      '127.0.0.1',
    ])
    expect(request.headers).toMatchObject({ 'x-tenant': 'blue', cookie: 'a=b', upgrade: 'websocket' })
    expect(request.rawHeaders).toContain('x-tenant')
    expect(request.session).toMatchObject({ recovered: false, state: undefined })
    expect(ws.protocol).toBe('')
  })

  test('is made by a server that also listens itself, and that serves both', async () => {
    const gateway = await startTestGateway()
    const seen: boolean[] = []
    const { wss } = await startWsApp(
      gateway,
      (ws, request) => {
        seen.push(request.session !== undefined)
        ws.on('message', (data) => ws.send(`echo ${data}`))
      },
      { server: { noServer: false, port: 0, host: '127.0.0.1' } },
    )
    onTestFinished(() => wss.close())
    const direct = new WebSocket(`ws://127.0.0.1:${(wss.address() as { port: number }).port}`)
    onTestFinished(() => direct.terminate())
    await once(direct, 'open')
    for (const ws of [direct, await connect(gateway)]) {
      ws.send('x')
      expect(String((await once(ws, 'message'))[0])).toBe('echo x')
    }
    expect(seen).toEqual([false, true])
    expect(wss.clients.size).toBe(2)
  })
})

describe('messages', () => {
  test('are what ws makes of them, both ways', async () => {
    const came: [Buffer, boolean][] = []
    const { ws, peer } = await pair((ws) =>
      ws.on('message', (data, isBinary) => came.push([data as Buffer, isBinary])),
    )
    for (const data of ['', 'grüße 🌊', Buffer.alloc(0), Buffer.from([0, 255]), 'x'.repeat(70_000)])
      peer.send(data)
    await expect.poll(() => came.length).toBe(5)
    expect(came).toEqual([
      [Buffer.alloc(0), false],
      [Buffer.from('grüße 🌊'), false],
      [Buffer.alloc(0), true],
      [Buffer.from([0, 255]), true],
      [Buffer.from('x'.repeat(70_000)), false],
    ])
    const got: [string, boolean][] = []
    peer.on('message', (data, isBinary) => got.push([String(data), isBinary]))
    const bytes = new TextEncoder().encode('view')
    ws.send('text')
    ws.send(Buffer.from('buffer'))
    ws.send(Buffer.from('as text'), { binary: false })
    ws.send('as binary', { binary: true })
    ws.send(bytes.buffer)
    ws.send(new DataView(bytes.buffer, 1, 2))
    ws.send(7)
    ws.send('one ', { fin: false })
    ws.send('message', { fin: true })
    ws.send('')
    await expect.poll(() => got.length).toBe(9)
    expect(got).toEqual([
      ['text', false],
      ['buffer', true],
      ['as text', false],
      ['as binary', true],
      ['view', true],
      ['ie', true],
      ['7', false],
      ['one message', false],
      ['', false],
    ])
    expect(() => ws.send({} as never)).toThrow(TypeError)
  })

  test.each([
    ['arraybuffer', (data: unknown) => data instanceof ArrayBuffer && data.byteLength === 3],
    ['fragments', (data: unknown) => Array.isArray(data) && data.length === 1 && data[0].length === 3],
    ['blob', (data: unknown) => data instanceof Blob && data.size === 3],
  ] as const)('with binaryType %s are of that type when they are binary', async (type, fits) => {
    const { ws, peer } = await pair((ws) => {
      ws.binaryType = type as never
    })
    peer.send(Buffer.from([1, 2, 3]))
    expect((await once(ws, 'message')).map((part, i) => (i === 0 ? fits(part) : part))).toEqual([true, true])
    peer.send('text')
    expect((await once(ws, 'message'))[0]).toEqual(Buffer.from('text'))
  })

  test('reach addEventListener and on* properties as the standard has it', async () => {
    const events: unknown[] = []
    const { ws, peer } = await pair((ws) => {
      ws.onmessage = ({ data, type, target }) => events.push([type, data, target === ws])
      ws.addEventListener('close', ({ code, reason, wasClean }) => events.push([code, reason, wasClean]))
    })
    peer.send('x')
    await expect.poll(() => events).toEqual([['message', 'x', true]])
    ws.onmessage = null
    peer.send('nobody hears this')
    peer.close(1000, 'bye')
    await expect.poll(() => events.length).toBe(2)
    expect(events[1]).toEqual([1000, 'bye', true])
  })

  test('wait for the listener of a connection handler that is asynchronous', async () => {
    const came: string[] = []
    const gateway = await startTestGateway()
    const go = Promise.withResolvers<void>()
    await startWsApp(gateway, async (ws) => {
      await go.promise
      ws.on('message', (data) => came.push(String(data)))
    })
    const peer = await connect(gateway)
    for (const data of ['1', '2', '3']) peer.send(data)
    await expect.poll(() => gateway.operator.counters.messagesIn).toBe(3)
    go.resolve()
    await expect.poll(() => came).toEqual(['1', '2', '3'])
  })

  test('wait while the connection is paused, and the client with them', async () => {
    const came: string[] = []
    const { ws, peer, gateway } = await pair((ws) => {
      ws.on('message', (data) => came.push(String(data)))
      ws.pause()
    })
    for (let i = 0; i < 300; i++) peer.send(String(i))
    await expect.poll(() => gateway.operator.counters.messagesIn).toBeGreaterThanOrEqual(256)
    expect([came, ws.isPaused]).toEqual([[], true])
    ws.resume()
    await expect.poll(() => came.length).toBe(300)
    expect(came).toEqual(Array.from({ length: 300 }, (_, i) => String(i)))
  })
})

describe('ends', () => {
  test('close, terminate and the socket: what both sides see', async () => {
    for (const [end, atApp, atPeer] of [
      [(ws: WebSocket) => ws.close(4000, 'bye'), [4000, 'bye'], [4000, 'bye']],
      [(ws: WebSocket) => ws.close(), [1000, ''], [1000, '']],
      [(ws: WebSocket) => ws.terminate(), [1006, ''], [1001, 'terminated']],
      [
        (_: WebSocket, request: IncomingMessage) => request.socket.destroy(),
        [1006, ''],
        [1001, 'terminated'],
      ],
    ] as const) {
      const { ws, peer, request, wss } = await pair()
      const closed = [closeOf(ws), closeOf(peer)]
      end(ws, request)
      expect(await Promise.all(closed)).toEqual([atApp, atPeer])
      expect([ws.readyState, wss.clients.size]).toEqual([3, 0])
      const failed = Promise.withResolvers<Error | undefined>()
      ws.send('late', failed.resolve)
      expect((await failed.promise)?.message).toMatch(/not open: readyState 3/)
    }
  })

  test('what is sent before close arrives; close is not seen before it returns', async () => {
    const { ws, peer } = await pair()
    const got: string[] = []
    peer.on('message', (data) => got.push(String(data)))
    const order: string[] = []
    ws.on('close', () => order.push('event'))
    for (let i = 0; i < 50; i++) ws.send(String(i))
    ws.close(1000)
    order.push('returned')
    expect(ws.readyState).toBe(2)
    await closeOf(peer)
    expect(got.length).toBe(50)
    expect(order).toEqual(['returned', 'event'])
  })

  test('codes and reasons that ws refuses are refused', async () => {
    const { ws } = await pair()
    expect(() => ws.close(1005)).toThrow(TypeError)
    expect(() => ws.close(1000, 'x'.repeat(124))).toThrow(RangeError)
    expect(ws.readyState).toBe(1)
  })

  test('a listener that throws costs its connection, not the process nor the others', async () => {
    const errors: string[] = []
    const gateway = await startTestGateway()
    const logger = { ...quiet, error: (message: string) => errors.push(message) }
    await startWsApp(
      gateway,
      (ws, request) => {
        if (request.url!.endsWith('?early')) throw new Error('thrown early')
        ws.on('message', async (data) => {
          if (String(data) === 'reject') throw new Error('thrown asynchronously')
        })
        ws.on('message', (data) => {
          if (String(data) === 'throw') throw new Error('thrown on purpose')
          ws.send('fine')
        })
      },
      { logger },
    )
    const [bad, good] = [await connect(gateway), await connect(gateway)]
    bad.send('throw')
    expect(await closeOf(bad)).toEqual([1011, 'handler failed'])
    expect(await closeOf(await connect(gateway, '?early'))).toEqual([1011, 'handler failed'])
    const rejecting = await connect(gateway)
    rejecting.send('reject')
    expect(await closeOf(rejecting)).toEqual([1011, 'handler failed'])
    good.send('still there?')
    expect(String((await once(good, 'message'))[0])).toBe('fine')
    expect(errors.map((text) => /thrown \w+/.exec(text)?.[0])).toEqual([
      'thrown on',
      'thrown early',
      'thrown asynchronously',
    ])
  })

  test("the server's close is over when the last session has gone", async () => {
    const { wss, peer } = await pair()
    const closed = once(wss, 'close')
    wss.close()
    peer.close()
    await closed
  })
})

test('heartbeats as in the documentation of ws: a ping is answered, whatever the client does', async () => {
  const { ws } = await pair()
  const pong = once(ws, 'pong')
  const written = Promise.withResolvers<unknown>()
  ws.ping('mark', false, written.resolve)
  expect(String((await pong)[0])).toBe('mark')
  expect(await written.promise).toBeUndefined()
  ws.pong()
})

describe('verifyClient', () => {
  const allowed = (query: string | undefined) => query?.endsWith('?key=1') === true
  test.each<[string, Parameters<typeof startWsApp>[2]]>([
    [
      "the server's own",
      { server: { verifyClient: ({ req }: { req: IncomingMessage }) => allowed(req.url) } },
    ],
    [
      "the server's own, with a callback",
      {
        server: {
          verifyClient: (
            { req }: { req: IncomingMessage },
            done: (verified: boolean, code?: number, message?: string) => void,
          ) => setImmediate(() => done(allowed(req.url), 403, 'no')),
        },
      },
    ],
    [
      'an option that resolves',
      { verifyClient: async ({ req }: { req: IncomingMessage }) => allowed(req.url) },
    ],
  ])('%s', async (_, options) => {
    const gateway = await startTestGateway()
    let connections = 0
    await startWsApp(
      gateway,
      (ws) => {
        connections++
        ws.send('in')
      },
      options,
    )
    const peer = new WebSocket(`${gateway.wsUrl}?key=1`)
    onTestFinished(() => peer.terminate())
    expect(String((await once(peer, 'message'))[0])).toBe('in')
    expect(await closeOf(await connect(gateway, '?key=2'))).toEqual([1008, 'not verified'])
    expect(connections).toBe(1)
  })
})

describe('back-pressure', () => {
  test('of a client that does not read: callbacks wait, bufferedAmount says so, then everything arrives', async () => {
    const { ws, peer } = await pair()
    peer.pause()
    const chunk = Buffer.alloc(256 * 1024, 1)
    let called = 0
    const count = 32
    for (let i = 0; i < count; i++) ws.send(chunk, () => called++)
    await turn()
    expect(ws.bufferedAmount).toBeGreaterThan(1024 * 1024)
    expect(called).toBeLessThan(count)
    let got = 0
    peer.on('message', () => got++)
    const drained = once(ws, 'drain')
    peer.resume()
    await drained
    expect(ws.bufferedAmount).toBe(0)
    await expect.poll(() => [got, called]).toEqual([count, count])
  })

  test('a client for which too much waits is closed with 4008, and the others live on', async () => {
    const { ws, peer, gateway, wss } = await pair(undefined, { maxBufferedBytes: 3 * 1024 * 1024 })
    const other = await connect(gateway)
    await expect.poll(() => wss.clients.size).toBe(2)
    peer.pause()
    const closed = closeOf(ws)
    const errors: (Error | undefined)[] = []
    for (let i = 0; i < 20; i++) ws.send(Buffer.alloc(1024 * 1024), (error) => errors.push(error))
    expect(await closed).toEqual([4008, 'the client reads too slowly'])
    expect(errors.length).toBe(20)
    expect(errors.filter(Boolean).length).toBeGreaterThan(10)
    const [left] = wss.clients
    left!.send('alive')
    expect(String((await once(other, 'message'))[0])).toBe('alive')
  })

  test('the answers to a client that sends and does not read wait, and so do its messages', async () => {
    let handled = 0
    const chunk = Buffer.alloc(512 * 1024)
    const { peer } = await pair((ws) =>
      ws.on('message', () => {
        handled++
        ws.send(chunk)
      }),
    )
    peer.pause()
    for (let i = 0; i < 200; i++) peer.send('more')
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(handled).toBeLessThan(200)
    let got = 0
    peer.on('message', () => got++)
    peer.resume()
    await expect.poll(() => [handled, got], { timeout: 15_000 }).toEqual([200, 200])
  })

  test('a message above the limit: the callback hears of it, the client gets 1009', async () => {
    const { ws, peer } = await pair()
    const largest = Buffer.alloc(1024 * 1024, 5)
    const got = once(peer, 'message')
    ws.send(largest)
    expect((await got)[0]).toEqual(largest)
    const closed = closeOf(peer)
    const failed = Promise.withResolvers<Error | undefined>()
    ws.send(Buffer.alloc(largest.length + 1), failed.resolve)
    expect(await failed.promise).toMatchObject({ code: 'TOO_LARGE' })
    expect((await closed)[0]).toBe(1009)
  })

  test('createWebSocketStream reads, writes with back-pressure, and ends', async () => {
    const total = 6 * 1024 * 1024
    let written = 0
    const { ws, peer } = await pair((ws) => {
      const stream = createWebSocketStream(ws)
      stream.on('data', (data) => {
        if (String(data) !== 'go') return
        for (const size = 64 * 1024; written < total; written += size) stream.write(Buffer.alloc(size))
        stream.end()
      })
      stream.on('error', () => {})
    })
    let got = 0
    peer.on('message', (data) => (got += (data as Buffer).length))
    peer.send('go')
    const [[code]] = await Promise.all([closeOf(peer), closeOf(ws)])
    expect([got, code]).toEqual([total, 1000])
  })
})

test('options that make no sense are refused with their name and the remedy', async () => {
  const wss = new WebSocketServer({ noServer: true })
  const gateways = ['ws://127.0.0.1:1']
  await expect(attachWebSocketServer(wss, { id: 'a b', gateways })).rejects.toMatchObject({
    code: 'BAD_REQUEST',
    message: /id must be/,
  })
  await expect(attachWebSocketServer({} as never, { id: 'a', gateways })).rejects.toThrow(
    /WebSocketServer of ws/,
  )
  await expect(attachWebSocketServer(wss, { id: 'a', gateways, maxBufferedBytes: 0 })).rejects.toThrow(
    /maxBufferedBytes/,
  )
  await expect(attachWebSocketServer(wss, { id: 'a', gateways, migrate: 'never' as never })).rejects.toThrow(
    /migrate must be/,
  )
})
