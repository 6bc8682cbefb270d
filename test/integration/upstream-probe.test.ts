import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
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
