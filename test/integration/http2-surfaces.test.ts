import { once } from 'node:events'
import { Socket } from 'engine.io-client'
import { createNode } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { encodeTunnelFrame } from '../../src/protocol/tunnel-frames.ts'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { llmConfig, startLlmServer } from '../support/llm.ts'
import { modelOf } from '../support/llm-story.ts'
import { Http2Client, Http2Events, localCertificate, tlsListener } from '../support/tls.ts'
import { startHttpUpstream, startRawUpstream } from '../support/upstreams.ts'

async function startSecure(
  overrides: object = {},
  extra?: Parameters<typeof startTestGateway>[2],
): Promise<{ gateway: TestGateway; client: Http2Client }> {
  const gateway = await startTestGateway(
    { public: tlsListener([localCertificate()]), ...overrides } as never,
    {},
    extra,
  )
  return { gateway, client: new Http2Client(gateway.publicPort) }
}

const upstreamConfig = (url: string) => ({
  pools: {
    web: {
      upstreams: [{ url, weight: 1 }],
      migrate: 'drain',
      probe: { intervalMs: 60_000, timeoutMs: 2_000, failures: 3 },
    },
  },
  routes: [{ path: '/*', pool: 'web' }],
})

test('requests are passed on to upstreams over HTTP/1.1, and their answers back', async () => {
  const upstream = await startHttpUpstream(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { method, url, rawHeaders } = request
    const headers = [
      ['Content-Type', 'application/json'],
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
      ['X-Twice', '1'],
      ['X-Twice', '2'],
      ['Connection', 'x-gone'],
      ['X-Gone', 'yes'],
    ]
    response.writeHead(418, 'Short and stout', headers.flat())
    response.end(JSON.stringify({ method, url, rawHeaders, body }))
  })
  const { gateway, client } = await startSecure(upstreamConfig(upstream.url))
  const answer = await client.request(
    { ':method': 'PATCH', ':path': '/a%20b?c=d', 'x-custom': 'c', cookie: ['k=v', 'l=w'], te: 'trailers' },
    'hello',
  )
  expect(answer.status).toBe(418)
  expect(answer.headers).toMatchObject({ 'set-cookie': ['a=1', 'b=2'], 'x-twice': '1, 2' })
  expect(answer.headers).not.toHaveProperty('x-gone')
  const { method, url, rawHeaders, body } = JSON.parse(answer.body)
  expect([method, url, body]).toEqual(['PATCH', '/a%20b?c=d', 'hello'])
  const pairs = rawHeaders.flatMap((name: string, i: number) =>
    i % 2 === 0 ? [`${name.toLowerCase()}: ${rawHeaders[i + 1]}`] : [],
  )
  expect(pairs).toEqual(
    expect.arrayContaining([
      `host: localhost:${gateway.publicPort}`,
      'cookie: k=v; l=w',
      'x-custom: c',
      'x-forwarded-proto: https',
      'x-forwarded-for: 127.0.0.1',
      `x-forwarded-host: localhost:${gateway.publicPort}`,
    ]),
  )
  expect(pairs.filter((pair: string) => /^(?::|te:)/.test(pair))).toEqual([])
})

test('large bodies both ways, and answers without one', async () => {
  const upstream = await startHttpUpstream((request, response) => {
    if (request.method === 'POST') {
      response.writeHead(200)
      request.pipe(response)
    } else response.writeHead(request.method === 'HEAD' ? 200 : 304, { etag: '"1"' }).end()
  })
  const { client } = await startSecure(upstreamConfig(upstream.url))
  const body = 'x'.repeat(3_000_000)
  const answer = await client.request({ ':method': 'POST', ':path': '/' }, body)
  expect(answer.body.length).toBe(body.length)
  expect(await client.request({ ':path': '/' })).toMatchObject({ status: 304, body: '' })
  expect(await client.request({ ':method': 'HEAD', ':path': '/' })).toMatchObject({ status: 200, body: '' })
})

test('an answer that HTTP/2 has no way to say is a bad gateway', async () => {
  const upstream = await startRawUpstream((socket) =>
    socket.end('HTTP/1.1 999 Odd\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok'),
  )
  const { client } = await startSecure(upstreamConfig(upstream.url))
  expect((await client.request({ ':path': '/' })).status).toBe(502)
  expect((await client.request({ ':path': '/healthz' })).status).toBe(200)
})

test('a client that breaks off is no trouble, and its upstream hears of it', async () => {
  let closed = false
  const upstream = await startHttpUpstream((request, response) => {
    request.on('error', () => {})
    response.on('close', () => {
      closed = true
    })
    response.writeHead(200)
    response.write('begun')
  })
  const { client } = await startSecure(upstreamConfig(upstream.url))
  const stream = client.stream({ ':path': '/' })
  await once(stream, 'data')
  stream.close(8)
  await expect.poll(() => closed).toBe(true)
})

test('Engine.IO: polling over HTTP/2, and the upgrade to a WebSocket beside it', async () => {
  const { gateway, client } = await startSecure()
  await startTestNode(gateway, echo)
  const opened = await client.request({ ':path': '/engine.io/?EIO=4&transport=polling' })
  expect(opened.status).toBe(200)
  const { sid } = JSON.parse(opened.body.slice(1))
  const path = `/engine.io/?EIO=4&transport=polling&sid=${sid}`
  expect(await client.request({ ':method': 'POST', ':path': path }, '4hello')).toMatchObject({
    status: 200,
    body: 'ok',
  })
  expect((await client.request({ ':path': path })).body).toBe('4hello')
  // A poll that waits, and is answered by what comes.
  const waiting = client.request({ ':path': path })
  await client.request({ ':method': 'POST', ':path': path }, '4again')
  expect((await waiting).body).toBe('4again')

  const url = `https://localhost:${gateway.publicPort}`
  const socket = new Socket(url, { transports: ['polling', 'websocket'], rejectUnauthorized: false })
  onTestFinished(() => void socket.close())
  const got: unknown[] = []
  socket.on('message', (data) => got.push(data))
  await new Promise((resolve) => socket.on('upgrade', resolve))
  socket.send('over a WebSocket')
  await expect.poll(() => got).toEqual(['over a WebSocket'])
})

test('evenkeel.v1 over HTTP', async () => {
  const { gateway, client } = await startSecure()
  await startTestNode(gateway, echo)
  const stream = new Http2Events(client.stream({ ':method': 'POST', ':path': '/sse/v1' }, 'h{}'))
  const id = (await stream.next('open')).data
  expect(JSON.parse((await stream.next()).data)).toMatch(/^w\{"session"/)
  const frames = Buffer.concat(['mone', 'mtwo'].flatMap(encodeTunnelFrame))
  const post = { ':method': 'POST', ':path': `/sse/v1/${id}` }
  expect((await client.request(post, frames)).status).toBe(204)
  const got = [await stream.next(), await stream.next(), await stream.next()]
  const said = got.map(({ data }) => JSON.parse(data) as string)
  expect(said.filter((frame) => frame.startsWith('m'))).toEqual(['mone', 'mtwo'])
})

test('runs: started, read, read again, cancelled', async () => {
  const { gateway, client } = await startSecure()
  const node = createNode({
    id: 'r',
    gateways: [gateway.linkUrl],
    drainOnSigterm: false,
    logger: { info() {}, warn() {}, error() {} },
  })
  onTestFinished(() => node.stop())
  node.run('count', async function* (request) {
    for (let i = 0; i < (request as { to: number }).to; i++) yield `t${i} `
  })
  await node.start()
  const answer = await client.request(
    { ':method': 'POST', ':path': '/runs', 'content-type': 'application/json' },
    JSON.stringify({ name: 'count', body: { to: 20 } }),
  )
  expect(answer.status).toBe(200)
  const run = String(answer.headers['x-run-id'])
  expect(answer.body).toContain('t19')
  const again = await client.request({ ':path': `/runs/${run}/events` })
  expect(again.body.match(/t\d+ /g)?.length).toBe(20)
  expect((await client.request({ ':method': 'POST', ':path': `/runs/${run}/cancel` })).status).toBe(200)
})

test('streams of language models, and those who resume them', async () => {
  const server = await startLlmServer()
  const { client } = await startSecure(llmConfig([server]))
  const body = JSON.stringify({ model: modelOf({ tokens: 30 }), stream: true, messages: [] })
  const path = '/v1/chat/completions'
  const headers = { 'content-type': 'application/json' }
  const direct = await (await fetch(`${server.url}${path}`, { method: 'POST', body, headers })).text()
  const answer = await client.request({ ':method': 'POST', ':path': path, ...headers }, body)
  expect(answer.body).toBe(direct)
  expect(answer.headers).toMatchObject({ 'x-run-id': expect.any(String), 'x-served-by': 'm1' })
  const whole = JSON.stringify({ model: modelOf({}), messages: [] })
  const plain = await client.request({ ':method': 'POST', ':path': path, ...headers }, whole)
  expect(JSON.parse(plain.body)).toMatchObject({ choices: [{ message: { content: 'whole' } }] })
})

test('pages that somebody adds', async () => {
  const { client } = await startSecure({}, async (request, response) => {
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += chunk
    response.setHeader('X-Page', 'yes')
    response.writeHead(200, { 'content-type': 'text/plain' }).end(`${request.method} ${request.url} ${body}`)
    return true
  })
  const answer = await client.request({ ':method': 'POST', ':path': '/page' }, 'posted')
  expect(answer).toMatchObject({ status: 200, body: 'POST /page posted', headers: { 'x-page': 'yes' } })
})
