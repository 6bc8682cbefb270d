import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { probeUpstream } from '../../src/edge/upstream/probe.ts'
import { UpstreamServer } from '../support/upstream-server.ts'

const patientMs = 20_000

function probe(port: number, path: string | null, timeoutMs = patientMs, host = 'chat.internal') {
  return probeUpstream(
    { url: new URL(`http://${host}:${port}`), address: { host: '127.0.0.1', port }, path },
    timeoutMs,
  )
}

/** A server that does one thing to each connection. */
async function rawServer(
  serve: (socket: Socket) => void,
): Promise<{ port: number; closed: () => Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    serve(socket)
    // Who does not read never sees the end.
    socket.resume()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    closed: () => expect.poll(() => sockets.size, { timeout: patientMs }).toBe(0),
  }
}

test.each([
  [200, null],
  [204, null],
  [302, null],
  [399, null],
  [404, '/healthz answers 404'],
  [500, '/healthz answers 500'],
  [503, '/healthz answers 503'],
])('status %d: %s', async (status, result) => {
  const server = await UpstreamServer.start((_request, response) => response.writeHead(status).end())
  expect(await probe(server.port, '/healthz')).toBe(result)
  expect(server.requests).toEqual([`GET /healthz chat.internal:${server.port}`])
})

test('a redirect is not followed', async () => {
  const target = await UpstreamServer.start()
  const server = await UpstreamServer.start((_request, response) =>
    response.writeHead(302, { location: target.url }).end(),
  )
  expect(await probe(server.port, '/')).toBeNull()
  expect([server.connections, target.connections]).toEqual([1, 0])
})

test('what is dialled is the address, never the name', async () => {
  const server = await UpstreamServer.start()
  expect(await probe(server.port, '/', patientMs, 'no-such-host.invalid')).toBeNull()
  expect(await probe(server.port, null, patientMs, 'no-such-host.invalid')).toBeNull()
  expect(server.requests).toEqual([`GET / no-such-host.invalid:${server.port}`])
})

test('without a path a connection is enough; nothing is sent', async () => {
  let received = 0
  const server = await rawServer((socket) => socket.on('data', ({ length }) => (received += length)))
  expect(await probe(server.port, null)).toBeNull()
  await server.closed()
  expect(received).toBe(0)
})

test('nobody listens', async () => {
  const server = await UpstreamServer.start()
  await server.kill()
  for (const path of [null, '/']) expect(await probe(server.port, path)).toBe('ECONNREFUSED')
})

test.each([
  ['says nothing', () => {}, 'no answer within 100 ms'],
  ['begins to answer', (socket: Socket) => socket.write('HTTP/1.1 200 O'), 'no answer within 100 ms'],
  ['ends', (socket: Socket) => socket.end(), 'ECONNRESET'],
  ['answers with no HTTP', (socket: Socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'), /^HPE_/],
  ['resets', (socket: Socket) => socket.once('data', () => socket.resetAndDestroy()), 'ECONNRESET'],
  [
    'upgrades unasked',
    (socket: Socket) =>
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
    '/ answers 101',
  ],
] as const)('a server that %s', async (_name, serve, result) => {
  const server = await rawServer(serve)
  const timeoutMs = result === 'no answer within 100 ms' ? 100 : patientMs
  expect(await probe(server.port, '/', timeoutMs)).toMatch(result)
  await server.closed()
})

test('an endless answer is not read', async () => {
  const server = await rawServer((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    const more = () => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
    }
    socket.on('drain', more)
    more()
  })
  expect(await probe(server.port, '/')).toBeNull()
  await server.closed()
})

test('over TLS the name counts, not the address', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-probe-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const [keyFile, certFile] = ['key', 'cert'].map((name) => path.join(directory, name)) as [string, string]
  const wanted = [
    '-subj',
    '/CN=chat.internal',
    '-addext',
    'subjectAltName=DNS:chat.internal',
    '-days',
    '2',
    '-nodes',
  ]
  const files = ['-keyout', keyFile, '-out', certFile]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...wanted, ...files], { stdio: 'ignore' })
  const cert = readFileSync(certFile, 'utf8')
  const names: string[] = []
  const server = createHttpsServer({ key: readFileSync(keyFile), cert }, ({ socket }, response) => {
    names.push((socket as TLSSocket).servername as string)
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  const ask = (host: string) =>
    probeUpstream(
      { url: new URL(`https://${host}:${port}`), address: { host: '127.0.0.1', port }, path: '/' },
      patientMs,
    )
  expect(await ask('chat.internal')).toBe('DEPTH_ZERO_SELF_SIGNED_CERT')
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, cert])
  onTestFinished(() => setDefaultCACertificates(before))
  expect(await ask('chat.internal')).toBeNull()
  expect(await ask('other.internal')).toBe('ERR_TLS_CERT_ALTNAME_INVALID')
  expect(names).toEqual(['chat.internal'])
})
