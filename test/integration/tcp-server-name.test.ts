import { once } from 'node:events'
import { connect as connectTcpSocket } from 'node:net'
import { type Duplex, duplexPair } from 'node:stream'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { createCertificate } from '../support/certificate.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { connectTcp, tcpListener, tcpPools } from '../support/tcp.ts'
import { startRawUpstream, startTcpUpstream, type TestUpstream } from '../support/upstreams.ts'

const certificates = {
  a: createCertificate('a.example'),
  b: createCertificate('b.example', 'deep.b.example'),
}

/** A TLS server with a certificate of its own; says its name and echoes. */
function tlsUpstream(name: 'a' | 'b'): Promise<TestUpstream> {
  const server = createTlsServer(certificates[name])
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    socket.write(name)
    socket.pipe(socket)
  })
  server.on('tlsClientError', () => {})
  return startTcpUpstream(server)
}

async function gatewayByName(listener: object, limits: object = {}): Promise<TestGateway> {
  const plain = await startRawUpstream((socket) => socket.end('plain'))
  const pools = tcpPools({ a: [await tlsUpstream('a')], b: [await tlsUpstream('b')], plain: [plain] })
  const sni = { 'a.example': 'a', '*.b.example': 'b' }
  return startTestGateway({ pools, tcp: [tcpListener({ sni, ...listener })], limits } as never)
}

/** A client that believes the certificate of one server only. */
async function secure(socket: Duplex, servername: string, name: 'a' | 'b'): Promise<TLSSocket> {
  const tls = connectTls({ socket, servername, ca: certificates[name].cert })
  onTestFinished(() => void tls.destroy())
  await once(tls, 'secureConnect')
  return tls
}

test('TLS goes through to the server that the client names', async () => {
  const gateway = await gatewayByName({})
  for (const [servername, name] of [
    ['a.example', 'a'],
    ['A.EXAMPLE', 'a'],
    ['deep.b.example', 'b'],
  ] as const) {
    const tls = await secure(connectTcpSocket(gateway.tcpPorts[0]!, '127.0.0.1'), servername, name)
    const [hello] = await once(tls, 'data')
    expect(String(hello)).toBe(name)
    tls.write('secret')
    const [echo] = await once(tls, 'data')
    expect(String(echo)).toBe('secret')
    expect(gateway.operator.sessions().sessions).toContainEqual(expect.objectContaining({ pool: name }))
  }
})

test('a ClientHello may come byte by byte', async () => {
  const gateway = await gatewayByName({})
  const wire = connectTcpSocket({ port: gateway.tcpPorts[0]!, host: '127.0.0.1', noDelay: true })
  onTestFinished(() => void wire.destroy())
  const [near, far] = duplexPair()
  wire.pipe(far)
  far.on('data', async (data: Buffer) => {
    far.pause()
    for (const byte of data) {
      wire.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    far.resume()
  })
  const tls = await secure(near, 'deep.b.example', 'b')
  const [hello] = await once(tls, 'data')
  expect(String(hello)).toBe('b')
})

test('behind a PROXY protocol header', async () => {
  const gateway = await gatewayByName({ proxyProtocol: 'required', proxyProtocolFrom: ['127.0.0.1'] })
  const wire = connectTcpSocket(gateway.tcpPorts[0]!, '127.0.0.1')
  wire.write('PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n')
  const tls = await secure(wire, 'a.example', 'a')
  expect(String((await once(tls, 'data'))[0])).toBe('a')
  const { sessions } = gateway.operator.sessions()
  expect(sessions).toMatchObject([{ pool: 'a', address: '192.0.2.7', transport: 'tcp' }])
})

test.each([
  ['an unknown name', (port: number) => connectTls({ port, host: '127.0.0.1', servername: 'other.example' })],
  ['no name', (port: number) => connectTls({ port, host: '127.0.0.1', servername: '' })],
])('%s is cut', async (_name, connect) => {
  const gateway = await gatewayByName({})
  const tls = connect(gateway.tcpPorts[0]!)
  onTestFinished(() => void tls.destroy())
  const [error] = await once(tls, 'error').catch((thrown) => [thrown])
  expect(error.code).toMatch(/ECONNRESET|EPIPE/)
  expect(gateway.operator.sessions().sessions).toEqual([])
})

test('with a pool for all others they go there, also what is no TLS; who says nothing is cut', async () => {
  const gateway = await gatewayByName({ pool: 'plain' }, { handshakeMs: 300 })
  const talkative = await connectTcp(gateway)
  talkative.socket.write('GET / HTTP/1.1\r\n\r\n')
  expect(await talkative.all).toBe('plain')
  const silent = await connectTcp(gateway)
  expect(await silent.all).toBe('')
})
