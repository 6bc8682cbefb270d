import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { Server } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { parseBlock } from '../../src/core/net/address.ts'
import { peerAddress } from '../../src/edge/peer-address.ts'
import { requireProxyHeaders } from '../../src/edge/proxy-headers.ts'
import { createCertificate } from '../support/certificate.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { connectWs, startTcpUpstream, type TestUpstream } from '../support/upstreams.ts'

const versions = ['v1', 'v2'] as const

/** Only takes connections that begin with a header; answers with the address in it. */
async function proxiedUpstream(server: Server): Promise<TestUpstream> {
  const headers = requireProxyHeaders(server, () => 5_000, {
    from: [parseBlock('127.0.0.1')!],
    onRefused() {},
  })
  onTestFinished(() => headers.close())
  new WebSocketServer({ server: server as ReturnType<typeof createHttpServer> }).on(
    'connection',
    (ws, { socket }) => {
      ws.on('message', () => ws.send(peerAddress(socket)))
    },
  )
  return startTcpUpstream(server)
}

const tell: RequestListener = (request, response) => {
  request
    .resume()
    .on('end', () => response.end(`${peerAddress(request.socket)} ${request.socket.remotePort}`))
}

function startGateway(url: string, proxyProtocol: 'v1' | 'v2'): Promise<TestGateway> {
  const probe = { intervalMs: 600_000, timeoutMs: 5_000, failures: 3, path: '/' }
  return startTestGateway({
    pools: { legacy: { upstreams: [url], migrate: 'drain', probe, proxyProtocol } },
    routes: [{ path: '/*', pool: 'legacy' }],
  } as never)
}

test.each(versions)(
  'an upstream hears whose connection it is, and probes are nobody’s: %s',
  async (version) => {
    const upstream = await proxiedUpstream(createHttpServer(tell))
    const gateway = await startGateway(upstream.url, version)
    const addresses = ['127.1.2.3', '127.1.2.4', '127.1.2.3']
    const seen = await Promise.all(
      addresses.map(async (localAddress) => {
        const ws = await connectWs(gateway, '/', [], { localAddress, perMessageDeflate: false })
        ws.send('who am I?')
        const [message] = await once(ws, 'message')
        return String(message)
      }),
    )
    expect(seen).toEqual(addresses)
  },
)

test('each request has a connection of its own, which ends with it', async () => {
  const upstream = await proxiedUpstream(createHttpServer(tell))
  const gateway = await startGateway(upstream.url, 'v2')
  const ask = async (body?: string) =>
    (await fetch(gateway.httpUrl, { method: 'POST', body: body ?? null })).text()
  const answers = [await ask(), await ask('x'.repeat(200_000)), await ask()]
  const ports = answers.map((answer) => answer.split(' ')[1])
  expect(answers.map((answer) => answer.split(' ')[0])).toEqual(Array(3).fill('127.0.0.1'))
  expect(new Set(ports).size).toBe(3)
  await upstream.empty()
})

test('an answer that is still coming keeps its connection', async () => {
  const server = createHttpServer((_request, response) => {
    response.write('first ')
    setTimeout(() => response.end('last'), 300)
  })
  const upstream = await proxiedUpstream(server)
  const gateway = await startGateway(upstream.url, 'v1')
  expect(await (await fetch(gateway.httpUrl)).text()).toBe('first last')
  await upstream.empty()
})

test.each(versions)('before TLS: %s', async (version) => {
  const certificate = createCertificate('localhost')
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, certificate.cert])
  onTestFinished(() => setDefaultCACertificates(before))
  const upstream = await proxiedUpstream(createHttpsServer(certificate, tell))
  const gateway = await startGateway(upstream.url.replace('http://127.0.0.1', 'https://localhost'), version)
  const ws = await connectWs(gateway, '/', [], { localAddress: '127.1.2.3' })
  ws.send('who am I?')
  expect(String((await once(ws, 'message'))[0])).toBe('127.1.2.3')
  expect(await (await fetch(gateway.httpUrl)).text()).toMatch(/^127\.0\.0\.1 /)
})
