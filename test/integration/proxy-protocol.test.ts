import { once } from 'node:events'
import { createServer as createHttpsServer, request as httpsRequest } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { parseBlock } from '../../src/core/net/address.ts'
import { encodeProxyHeader } from '../../src/core/net/proxy-protocol.ts'
import { peerAddress } from '../../src/edge/peer-address.ts'
import { requireProxyHeaders } from '../../src/edge/proxy-headers.ts'
import { createCertificate } from '../support/certificate.ts'
import { startHaproxy } from '../support/haproxy.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

const versions = ['v1', 'v2', 'v2 with extensions'] as const
const serverOptions = {
  v1: 'send-proxy',
  v2: 'send-proxy-v2',
  'v2 with extensions': 'send-proxy-v2 proxy-v2-options crc32c,unique-id,authority',
}

/** A gateway behind proxies, whose node answers with the address that it is told. */
async function gatewayBehindProxies(from = ['127.0.0.0/8'], handshakeMs = 10_000): Promise<TestGateway> {
  const gateway = await startTestGateway({
    public: { proxyProtocol: 'required', proxyProtocolFrom: from },
    limits: { handshakeMs },
  })
  await startTestNode(gateway, {
    message(session) {
      session.send(session.meta.address)
    },
  })
  return gateway
}

async function addressAtNode(port: number, localAddress: string): Promise<string> {
  const ws = new WebSocket(`ws://127.0.0.1:${port}/ws`, { localAddress })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  ws.send('who am I?')
  const [answer] = await once(ws, 'message')
  return String(answer)
}

async function rawClient(
  port: number,
  localAddress = '127.0.0.1',
): Promise<{ socket: Socket; all: Promise<string> }> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  let text = ''
  socket.on('data', (data) => {
    text += data.toString('latin1')
  })
  const all = once(socket, 'close').then(() => text)
  await once(socket, 'connect')
  return { socket, all }
}

const health = 'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'

test.each(versions)('a node sees the client of a real haproxy: %s', async (version) => {
  const gateway = await gatewayBehindProxies()
  const port = await startHaproxy(gateway.publicPort, serverOptions[version])
  expect(await addressAtNode(port, '127.1.2.3')).toBe('127.1.2.3')
  expect(await addressAtNode(port, '127.1.2.4')).toBe('127.1.2.4')
  const [session] = gateway.operator.sessions().sessions
  expect(session).toMatchObject({ address: expect.stringMatching(/^127\.1\.2\./) })
})

test('checks of a real haproxy are its own connections, and are answered', async () => {
  const gateway = await gatewayBehindProxies()
  const port = await startHaproxy(gateway.publicPort, 'send-proxy-v2 check check-send-proxy inter 50ms')
  await sleep(300)
  expect(await addressAtNode(port, '127.1.2.5')).toBe('127.1.2.5')
})

test.each(versions)('through TLS: %s', async (version) => {
  const { key, cert } = createCertificate('a.example')
  const server = createHttpsServer({ key, cert }, ({ socket }, response) => response.end(peerAddress(socket)))
  const headers = requireProxyHeaders(server, () => 5_000, {
    from: [parseBlock('127.0.0.1')!],
    onRefused() {},
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    headers.close()
    server.closeAllConnections()
    server.close()
  })
  const port = await startHaproxy((server.address() as AddressInfo).port, serverOptions[version])
  const request = httpsRequest({
    port,
    host: '127.0.0.1',
    servername: 'a.example',
    ca: cert,
    localAddress: '127.1.2.6',
    agent: false,
  })
  request.end()
  const [response] = await once(request, 'response')
  expect(String((await response.toArray())[0])).toBe('127.1.2.6')
})

test('a header in pieces, and in one with what follows it', async () => {
  const { publicPort } = await gatewayBehindProxies()
  const header = encodeProxyHeader('v2', { address: '2001:db8::7', port: 1 }, { address: '::1', port: 2 })
  const pieces = await rawClient(publicPort)
  pieces.socket.setNoDelay(true)
  for (const byte of header) {
    pieces.socket.write(Uint8Array.of(byte))
    await new Promise(setImmediate)
  }
  pieces.socket.write(health)
  expect(await pieces.all).toMatch(/^HTTP\/1.1 200 /)
  const whole = await rawClient(publicPort)
  whole.socket.write(Buffer.concat([header, Buffer.from(health)]))
  expect(await whole.all).toMatch(/^HTTP\/1.1 200 /)
})

test('whoever sends no header, or half of one, or comes from elsewhere, gets no answer', async () => {
  const { publicPort } = await gatewayBehindProxies(['127.0.0.1', '10.0.0.0/8'], 300)
  const plain = await rawClient(publicPort)
  plain.socket.write(health)
  expect(await plain.all).toBe('')

  const slow = await rawClient(publicPort)
  slow.socket.write('PROXY TCP4 1.1.1.1')
  expect(await slow.all).toBe('')

  const stranger = await rawClient(publicPort, '127.0.0.2')
  stranger.socket.write(`PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n${health}`)
  expect(await stranger.all).toBe('')

  const friend = await rawClient(publicPort)
  friend.socket.write(`PROXY UNKNOWN\r\n${health}`)
  expect(await friend.all).toMatch(/^HTTP\/1.1 200 /)
})

test('a gateway that stops does not wait for headers', async () => {
  const gateway = await startTestGateway({
    public: { proxyProtocol: 'required', proxyProtocolFrom: ['127.0.0.1'] },
  })
  const { all } = await rawClient(gateway.publicPort)
  // Once it is accepted.
  await sleep(50)
  await gateway.close()
  expect(await all).toBe('')
})
