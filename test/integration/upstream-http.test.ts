import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import type { TestGateway } from '../support/in-process.ts'
import {
  startHttpUpstream,
  startRawUpstream,
  startUpstreamGateway,
  startWsUpstream,
} from '../support/upstreams.ts'

const url = (gateway: TestGateway, path = '/') => `http://127.0.0.1:${gateway.publicPort}${path}`

async function textOf(stream: AsyncIterable<unknown>): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return text
}

test('method, path, headers, body and answer go through as they are', async () => {
  const upstream = await startHttpUpstream(async (request, response) => {
    const { method, url, headers } = request
    const body = await textOf(request)
    response.writeHead(
      418,
      'Short and stout',
      [
        ['Content-Type', 'application/json'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
        ['X-Answer', 'yes'],
      ].flat(),
    )
    response.end(JSON.stringify({ method, url, headers, body }))
  })
  const gateway = await startUpstreamGateway([upstream])
  const response = await fetch(url(gateway, '/a%20b/c?d=e&f'), {
    method: 'PATCH',
    headers: {
      'x-custom': 'c',
      'x-forwarded-for': '6.6.6.6',
      x_forwarded_for: '6.6.6.6',
      'x-forwarded-prefix': '/admin',
      proxy: 'http://6.6.6.6',
      cookie: 'k=v',
    },
    body: 'hello',
  })
  expect([response.status, response.statusText]).toEqual([418, 'Short and stout'])
  expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  expect(response.headers.get('x-answer')).toBe('yes')
  const asked = await response.json()
  expect(JSON.stringify(asked)).not.toMatch(/6\.6\.6\.6|admin/)
  expect(asked).toMatchObject({
    method: 'PATCH',
    url: '/a%20b/c?d=e&f',
    body: 'hello',
    headers: {
      host: `127.0.0.1:${gateway.publicPort}`,
      'x-custom': 'c',
      cookie: 'k=v',
      'x-forwarded-for': '127.0.0.1',
      'content-length': '5',
    },
  })
})

test('connections are kept and used again', async () => {
  const upstream = await startHttpUpstream((_request, response) => response.end('ok'))
  const gateway = await startUpstreamGateway([upstream])
  for (let i = 0; i < 50; i++) expect(await (await fetch(url(gateway))).text()).toBe('ok')
  expect(upstream.accepted).toBe(1)
})

test.each(['GET', 'HEAD', 'DELETE', 'OPTIONS'])('%s without a body; statuses without one', async (method) => {
  const upstream = await startHttpUpstream((request, response) => {
    const status = Number(request.url!.slice(1))
    response.writeHead(status, status === 200 ? { 'content-length': '2' } : {})
    response.end(request.method === 'HEAD' || status !== 200 ? undefined : 'ok')
  })
  const gateway = await startUpstreamGateway([upstream])
  for (const status of [200, 204, 304]) {
    const response = await fetch(url(gateway, `/${status}`), { method })
    expect(response.status).toBe(status)
    expect(await response.text()).toBe(status === 200 && method !== 'HEAD' ? 'ok' : '')
    if (status === 200) expect(response.headers.get('content-length')).toBe('2')
  }
})

test('large bodies are streamed both ways at the pace of the slower side', async () => {
  const total = 64 * 1024 * 1024
  let taken = 0
  let readOn: (() => void) | null = null
  const upstream = await startHttpUpstream((request, response) => {
    request.on('data', (chunk: Buffer) => {
      taken += chunk.length
      if (taken > 1024 * 1024 && readOn === null) {
        request.pause()
        readOn = () => request.resume()
      }
    })
    request.on('end', () => {
      response.writeHead(200)
      const chunk = Buffer.alloc(1024 * 1024, 2)
      for (let i = 0; i < total / chunk.length; i++) response.write(chunk)
      response.end()
    })
  })
  const gateway = await startUpstreamGateway([upstream])
  const client = httpRequest(url(gateway), { method: 'POST' })
  const answered = once(client, 'response')
  const chunk = Buffer.alloc(1024 * 1024, 1)
  for (let i = 0; i < total / chunk.length; i++) client.write(chunk)
  client.end()
  let before = -1
  while (readOn === null || client.writableLength !== before) {
    before = client.writableLength
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  // What the upstream does not read stays with the client, beyond what sockets and streams hold.
  expect(before).toBeGreaterThan(total / 2)
  ;(readOn as () => void)()
  const [response] = (await answered) as [IncomingMessage]
  expect(taken).toBe(total)
  let received = 0
  for await (const part of response) received += (part as Buffer).length
  expect(received).toBe(total)
})

test('a client that leaves cancels its request at the upstream', async () => {
  const closed = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const upstream = await startHttpUpstream((_request, response) => {
    response.on('close', () => closed.resolve())
    begun.resolve()
  })
  const gateway = await startUpstreamGateway([upstream])
  const abort = new AbortController()
  const answer = fetch(url(gateway), { signal: abort.signal })
  await begun.promise
  expect(gateway.operator.nodes()[0]).toMatchObject({ state: 'active' })
  abort.abort()
  await expect(answer).rejects.toThrow()
  await closed.promise
  await upstream.empty()
})

test('an upstream that resets before its answer: a GET is asked elsewhere, a POST is not', async () => {
  let asked = 0
  const broken = await startRawUpstream((socket) =>
    socket.once('data', () => {
      asked++
      socket.resetAndDestroy()
    }),
  )
  const posts: string[] = []
  const good = await startHttpUpstream(async (request, response) => {
    posts.push(`${request.method} ${await textOf(request)}`)
    response.end('good')
  })
  const gateway = await startUpstreamGateway([broken, good])
  for (let i = 0; i < 30; i++) expect(await (await fetch(url(gateway))).text()).toBe('good')
  expect(asked).toBeGreaterThan(0)
  const before = asked
  posts.length = 0
  const statuses: number[] = []
  for (let i = 0; i < 30; i++) {
    const response = await fetch(url(gateway), { method: 'POST', body: String(i) })
    if (response.status === 502) expect(await response.json()).toMatchObject({ code: 'BAD_GATEWAY' })
    statuses.push(response.status)
  }
  const failed = statuses.filter((status) => status === 502).length
  // Each was sent once: to the one that broke it, or to the good one.
  expect(failed).toBe(asked - before)
  expect(failed).toBeGreaterThan(0)
  expect(posts).toHaveLength(30 - failed)
})

test('a POST without a body is not sent twice either', async () => {
  let asked = 0
  const reset = (socket: Socket) =>
    socket.once('data', () => {
      asked++
      socket.resetAndDestroy()
    })
  const upstreams = [await startRawUpstream(reset), await startRawUpstream(reset)]
  const gateway = await startUpstreamGateway(upstreams)
  for (let i = 0; i < 20; i++) expect((await fetch(url(gateway), { method: 'POST' })).status).toBe(502)
  expect(asked).toBe(20)
})

test('a PUT whose body was begun is not sent twice', async () => {
  let asked = 0
  const reset = (socket: Socket) =>
    socket.once('data', () => {
      asked++
      socket.resetAndDestroy()
    })
  const gateway = await startUpstreamGateway([await startRawUpstream(reset), await startRawUpstream(reset)])
  for (let i = 0; i < 20; i++) {
    const response = await fetch(url(gateway), { method: 'PUT', body: 'x'.repeat(i * 10_000 + 1) })
    expect(response.status).toBe(502)
  }
  expect(asked).toBe(20)
})

test('where nothing listens, nothing was sent: a POST goes to the next one', async () => {
  const gone = await startHttpUpstream(() => {})
  const good = await startHttpUpstream(async (request, response) => response.end(await textOf(request)))
  const gateway = await startUpstreamGateway([gone, good])
  const alone = await startUpstreamGateway([gone])
  await gone.kill()
  for (let i = 0; i < 20; i++) {
    const response = await fetch(url(gateway), { method: 'POST', body: `message ${i}` })
    expect([response.status, await response.text()]).toEqual([200, `message ${i}`])
  }
  expect((await fetch(url(alone), { method: 'POST', body: 'x' })).status).toBe(502)
})

test('kept connections that the upstream closes at any moment cost no POST twice', async () => {
  const seen = new Map<string, number>()
  const upstream = await startHttpUpstream(async (request, response) => {
    const body = await textOf(request)
    seen.set(body, (seen.get(body) ?? 0) + 1)
    response.end('ok')
    // Now and then the connection ends just after an answer, as those of restarting servers do.
    if (Math.random() < 0.3) response.socket!.destroySoon()
  })
  const gateway = await startUpstreamGateway([upstream])
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      await fetch(url(gateway), { method: 'POST', body: String(i) })
    }),
  )
  expect([...seen.values()].filter((times) => times > 1)).toEqual([])
})

test('no answer in time is a 504; junk, and an end without an answer, are a 502', async () => {
  const config = { limits: { upstreamReadMs: 1_000 } }
  const silent = await startRawUpstream((socket) => socket.resume())
  const slow = await startUpstreamGateway([silent], { config })
  const late = await fetch(url(slow), { method: 'POST', body: 'x' })
  expect(late.status).toBe(504)
  expect(late.headers.get('content-type')).toBe('application/problem+json')
  expect(await late.json()).toMatchObject({ code: 'GATEWAY_TIMEOUT', status: 504 })
  await silent.empty()
  for (const answer of ['\x16\x03\x01junk\r\n\r\n', '', 'HTTP/1.1 200 OK\r\nA: b\r\n bad\x00\r\n\r\n']) {
    const upstream = await startRawUpstream((socket) => socket.once('data', () => socket.end(answer)))
    const gateway = await startUpstreamGateway([upstream])
    expect((await fetch(url(gateway), { method: 'POST', body: 'x' })).status).toBe(502)
    await upstream.empty()
  }
})

test('an answer that breaks off is not passed off as whole', async () => {
  const upstream = await startRawUpstream((socket) =>
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', () =>
        setTimeout(() => socket.resetAndDestroy(), 50),
      )
    }),
  )
  const gateway = await startUpstreamGateway([upstream])
  const response = await fetch(url(gateway))
  await expect(response.text()).rejects.toThrow()
  await upstream.empty()
})

test('a 5xx of the upstream is the answer, and nobody else is asked', async () => {
  let asked = 0
  const upstream = () =>
    startHttpUpstream((_request, response) => {
      asked++
      response.writeHead(503).end('busy')
    })
  const gateway = await startUpstreamGateway([await upstream(), await upstream()])
  const response = await fetch(url(gateway))
  expect([response.status, await response.text(), asked]).toEqual([503, 'busy', 1])
})

test('smuggled requests never reach the upstream', async () => {
  const upstream = await startWsUpstream(() => {})
  const gateway = await startUpstreamGateway([upstream])
  const answers: string[] = []
  for (const [target, head] of [
    ['/', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n'],
    ['/', 'Transfer-Encoding: chunked, identity\r\n'],
    ['/', 'Transfer-Encoding: gzip, chunked\r\n'],
    ['/public#private', 'Transfer-Encoding: chunked\r\n'],
  ]) {
    const socket = connect(gateway.publicPort, '127.0.0.1')
    socket.end(`GET ${target} HTTP/1.1\r\nHost: x\r\n${head}\r\n0\r\n\r\n`)
    answers.push((await textOf(socket)).slice(9, 12))
  }
  expect(answers).toEqual(['400', '400', '400', '400'])
  expect(upstream.accepted).toBe(0)
})

test('a client that offers HTTP/2 beside its request is answered in HTTP/1.1', async () => {
  const seen: unknown[] = []
  const upstream = await startHttpUpstream(({ headers }, response) => {
    seen.push(headers.upgrade, headers['http2-settings'])
    response.end('ok')
  })
  const gateway = await startUpstreamGateway([upstream])
  const socket = connect(gateway.publicPort, '127.0.0.1')
  const offer = 'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAA\r\n'
  socket.write(`GET / HTTP/1.1\r\nHost: x\r\n${offer}\r\n`)
  expect(await textOf(socket)).toMatch(/^HTTP\/1\.1 200 OK.*ok$/s)
  expect(seen).toEqual([undefined, undefined])
})

test.each([
  ['čaj', Buffer.from('čaj').toString('latin1')],
  ['a\u0001b', ''],
])('a reason of %j is passed on if it can be, and harms nobody', async (said, heard) => {
  const upstream = await startRawUpstream((socket) =>
    socket.on('data', () => socket.write(`HTTP/1.1 200 ${said}\r\nContent-Length: 2\r\n\r\nok`)),
  )
  const gateway = await startUpstreamGateway([upstream])
  const client = httpRequest(url(gateway)).end()
  const [response] = (await once(client, 'response')) as [IncomingMessage]
  expect([response.statusCode, response.statusMessage, await textOf(response)]).toEqual([200, heard, 'ok'])
})

test('clients that owe a body, or do not read, hold no connection to an upstream', async () => {
  const upstream = await startHttpUpstream((request, response) => {
    if (request.method === 'POST') request.resume()
    // A slow answer is another matter.
    else if (request.url === '/slow') setTimeout(() => response.end('ok'), 1_000)
    else response.end(Buffer.alloc(32 * 1024 * 1024))
  })
  const gateway = await startUpstreamGateway([upstream], { config: { limits: { clientStallMs: 300 } } })
  const heads = [
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf',
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
  ]
  const clients = heads.map((head) => {
    const socket = connect(gateway.publicPort, '127.0.0.1').pause()
    socket.on('error', () => {})
    onTestFinished(() => void socket.destroy())
    socket.write(head)
    return socket
  })
  expect(await (await fetch(url(gateway, '/slow'))).text()).toBe('ok')
  expect(upstream.accepted).toBe(3)
  await expect.poll(() => upstream.sockets.size, { timeout: 10_000 }).toBe(1)
  for (const client of clients) client.destroy()
})

test('connections that were told their last are cut, whoever holds them open', async () => {
  const upstream = await startHttpUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`data: ${'x'.repeat(512 * 1024)}\n\n`.repeat(32))
  })
  const gateway = await startUpstreamGateway([upstream])
  const handshake = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
  const clients = [
    'junk\r\n\r\n',
    `GET / HTTP/1.1\r\nHost: x\r\n${handshake}\r\n`,
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
  ].map((head) => {
    const socket = connect({ port: gateway.publicPort, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => {})
    onTestFinished(() => void socket.destroy())
    socket.write(head)
    return socket.pause()
  })
  await expect.poll(() => gateway.operator.sessions().sessions.length).toBe(1)
  gateway.operator.closeSession(gateway.operator.sessions().sessions[0]!.id)
  const cut = clients.map(async (socket) => {
    const closed = new Promise((resolve) => socket.once('close', resolve))
    // Only who speaks is told that nobody is there.
    const timer = setInterval(() => socket.write('x'), 100)
    await closed
    clearInterval(timer)
  })
  await Promise.all(cut)
})

test('a drain lets requests in flight finish, and sends new ones elsewhere', async () => {
  const waiting: (() => void)[] = []
  const upstream = (name: string) =>
    startHttpUpstream((request, response) => {
      if (request.url === '/wait') waiting.push(() => response.end(name))
      else response.end(name)
    })
  const [first, second] = [await upstream('first'), await upstream('second')]
  const gateway = await startUpstreamGateway([first, second])
  const slow = [fetch(url(gateway, '/wait')), fetch(url(gateway, '/wait'))]
  while (waiting.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  const operation = gateway.operator.drain(first.id)
  for (let i = 0; i < 10; i++) expect(await (await fetch(url(gateway))).text()).toBe('second')
  expect(gateway.operator.operation(operation.id).state).toBe('running')
  for (const finish of waiting) finish()
  expect((await Promise.all(slow.map(async (one) => (await one).text()))).sort()).toEqual(['first', 'second'])
  while (gateway.operator.operation(operation.id).state === 'running')
    await new Promise((resolve) => setTimeout(resolve, 20))
  expect(gateway.operator.node(first.id).state).toBe('drained')
  gateway.operator.activate(first.id)
  const names = new Set<string>()
  while (names.size < 2) names.add(await (await fetch(url(gateway))).text())
})

test('a client that returns finds its upstream by its cookie', async () => {
  const upstream = (name: string) => startHttpUpstream((_request, response) => response.end(name))
  const upstreams = await Promise.all(['a', 'b', 'c'].map(upstream))
  const gateway = await startUpstreamGateway(upstreams, { config: { persistence: { by: 'cookie' } } })
  const first = await fetch(url(gateway))
  const [cookie] = first.headers.getSetCookie()
  expect(cookie).toMatch(/^evenkeel-node-legacy=/)
  const name = await first.text()
  for (let i = 0; i < 10; i++) {
    const again = await fetch(url(gateway), { headers: { cookie: cookie!.split(';')[0]! } })
    expect(await again.text()).toBe(name)
    expect(again.headers.getSetCookie()).toEqual([])
  }
})
