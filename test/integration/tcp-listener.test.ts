import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { startHaproxy } from '../support/haproxy.ts'
import { connectTcp, startTcpGateway } from '../support/tcp.ts'
import { settledValue, startRawUpstream, startTcpUpstream, type TestUpstream } from '../support/upstreams.ts'

/** Says its name to whoever connects, and echoes. */
function named(name: string): Promise<TestUpstream> {
  return startRawUpstream((socket) => {
    socket.write(name)
    socket.pipe(socket)
  })
}

/** Answers with a digest once its client has said all. */
function digesting(): Promise<TestUpstream> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256')
    socket.on('data', (data) => hash.update(data))
    socket.on('end', () => socket.end(hash.digest('hex')))
  })
  return startTcpUpstream(server)
}

test('bytes go both ways, and an end leaves the way back open', async () => {
  const gateway = await startTcpGateway([await digesting()])
  const client = await connectTcp(gateway)
  const bytes = randomBytes(3_000_000)
  client.socket.end(bytes)
  expect(await client.all).toBe(createHash('sha256').update(bytes).digest('hex'))
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
  expect(gateway.operator.counters.tcpBytes).toEqual({ in: 3_000_000, out: 64 })
  expect(gateway.operator.counters.connections.tcp).toBe(0)
})

test('connections are placed by the policy of the pool and seen by operators', async () => {
  const upstreams = [await named('a'), await named('b')]
  const gateway = await startTcpGateway(upstreams)
  const names: string[] = []
  for (let i = 0; i < 6; i++) names.push(await (await connectTcp(gateway)).received(1))
  expect(names.toSorted().join('')).toBe('aaabbb')
  const { sessions } = gateway.operator.sessions()
  expect(sessions).toHaveLength(6)
  expect(sessions[0]).toMatchObject({ transport: 'tcp', pool: 'db', address: '127.0.0.1', state: 'active' })
  for (const node of gateway.operator.nodes())
    expect(node).toMatchObject({ sessions: 3, sessionsByTransport: { tcp: 3 }, url: `tcp://${node.id}` })
  const metrics = async () => (await fetch(`${gateway.internalUrl}/metrics`)).text()
  expect(await metrics()).toContain('evenkeel_connections{transport="tcp"} 6')
  await expect.poll(metrics, { timeout: 5_000 }).toContain('evenkeel_tcp_bytes_total{direction="out"} 6')
  const { status } = await fetch(`${gateway.internalUrl}/api/v1/sessions/${sessions[0]!.id}`, {
    method: 'DELETE',
  })
  expect(status).toBe(204)
  await expect.poll(() => gateway.operator.sessions().sessions.length).toBe(5)
})

test('a drained upstream gets no new connections, keeps those it has, and loses them at the deadline', async () => {
  const upstreams = [await named('a'), await named('b')]
  const gateway = await startTcpGateway(upstreams)
  const clients = [await connectTcp(gateway), await connectTcp(gateway)]
  await Promise.all(clients.map((client) => client.received(1)))
  const at = (name: string) => clients.find((client) => client.text() === name)!
  gateway.operator.drain(upstreams[0]!.id, { deadlineMs: 600_000 })
  for (let i = 0; i < 3; i++) expect(await (await connectTcp(gateway)).received(1)).toBe('b')
  at('a').socket.write('still here')
  expect(await at('a').received(11)).toBe('astill here')
  gateway.operator.activate(upstreams[0]!.id)
  gateway.operator.drain(upstreams[0]!.id, { deadlineMs: 0 })
  expect(await at('astill here').all).toBe('astill here')
  await upstreams[0]!.empty()
  expect(gateway.operator.node(upstreams[0]!.id).state).toBe('drained')
  expect(at('b').socket.destroyed).toBe(false)
})

test('a connection that cannot be made goes to another upstream; one that breaks ends', async () => {
  const upstreams = [await named('a'), await named('b')]
  const gateway = await startTcpGateway(upstreams)
  const clients = [await connectTcp(gateway), await connectTcp(gateway)]
  await Promise.all(clients.map((client) => client.received(1)))
  await upstreams[0]!.kill()
  expect(await clients.find((client) => client.text() === 'a')!.all).toBe('a')
  for (let i = 0; i < 3; i++) expect(await (await connectTcp(gateway)).received(1)).toBe('b')
  await upstreams[1]!.kill()
  expect(await (await connectTcp(gateway)).all).toBe('')
})

test('an upstream that ends a connection before a word was said has not taken it', async () => {
  const slamming = await startRawUpstream((socket) => socket.resetAndDestroy())
  const leaving = await startRawUpstream((socket) => socket.end())
  const upstreams = [slamming, leaving, await named('c')]
  const gateway = await startTcpGateway(upstreams)
  for (let i = 0; i < 3; i++) expect(await (await connectTcp(gateway)).received(1)).toBe('c')
})

test('what an upstream said before it left arrives', async () => {
  const gateway = await startTcpGateway([await startRawUpstream((socket) => socket.end('x'.repeat(300_000)))])
  expect(await (await connectTcp(gateway)).all).toHaveLength(300_000)
})

async function slowSide(slow: 'client' | 'upstream'): Promise<void> {
  const sockets: Socket[] = []
  const chunk = Buffer.alloc(65_536, 0x78)
  const pour = (socket: Socket) => {
    const write = () => {
      while (!socket.destroyed && socket.write(chunk));
    }
    socket.on('drain', write)
    write()
  }
  const upstream = await startRawUpstream((socket) => {
    sockets.push(socket)
    if (slow === 'client') pour(socket)
    else socket.pause()
  })
  const gateway = await startTcpGateway([upstream])
  const { socket: client } = await connectTcp(gateway)
  if (slow === 'client') client.pause()
  else pour(client)
  // The first one was a probe.
  await expect.poll(() => sockets.length).toBe(2)
  const [from, to] = slow === 'client' ? [sockets[1]!, client] : [client, sockets[1]!]
  const before = await settledValue(() => from.bytesWritten)
  // The rest is in the kernel's buffers.
  expect(before).toBeLessThan(32 * 1024 * 1024)
  to.resume()
  await expect.poll(() => from.bytesWritten, { timeout: 5_000 }).toBeGreaterThan(before * 3)
  client.destroy()
}

test('whoever reads slowly, client or upstream, costs a bounded amount of memory', async () => {
  await Promise.all([slowSide('client'), slowSide('upstream')])
})

test('a silent connection is cut after a time, as are those beyond the limit', async () => {
  const gateway = await startTcpGateway([await named('a')], { idleMs: 250, maxConnections: 1 })
  const first = await connectTcp(gateway)
  await first.received(1)
  expect(await (await connectTcp(gateway)).all).toBe('')
  expect(await first.all).toBe('a')
  await expect.poll(async () => (await connectTcp(gateway)).received(1).catch(() => '')).toBe('a')
})

test('a gateway that leaves takes no more and cuts the others spread over its window', async () => {
  const gateway = await startTcpGateway([await named('a')], {}, { limits: { gatewayDrainMs: 200 } })
  const clients = await Promise.all([1, 2, 3, 4].map(() => connectTcp(gateway)))
  await Promise.all(clients.map((client) => client.received(1)))
  const left = gateway.leave()
  await Promise.all(clients.map(({ all }) => all))
  await left
  const late = await connectTcp(gateway)
  expect(late.socket.errored).toMatchObject({ code: 'ECONNREFUSED' })
})

test('without an upstream clients are cut', async () => {
  const upstream = await named('a')
  const gateway = await startTcpGateway([upstream])
  gateway.operator.drain(upstream.id)
  expect(await (await connectTcp(gateway)).all).toBe('')
})

/** Answers with what it was sent first. */
async function telling(): Promise<TestUpstream> {
  return startRawUpstream((socket) => {
    socket.once('data', (data) => socket.end(data.toString('hex')))
  })
}

test.each(['v1', 'v2'] as const)(
  'the address goes through haproxy, gateway and upstream: %s',
  async (version) => {
    const upstream = await telling()
    const listener = { proxyProtocol: 'required', proxyProtocolFrom: ['127.0.0.1'] }
    const gateway = await startTcpGateway([upstream], listener, {}, { proxyProtocol: version })
    const front = await startHaproxy(gateway.tcpPorts[0]!, version === 'v1' ? 'send-proxy-v2' : 'send-proxy')
    const client = await connectTcp({ tcpPorts: [front] }, { localAddress: '127.1.2.3' })
    const { localPort } = client.socket
    client.socket.write('hello')
    const said = Buffer.from(await client.all, 'hex')
    if (version === 'v1') {
      const [line, rest] = said.toString().split('\r\n')
      expect(line).toBe(`PROXY TCP4 127.1.2.3 127.0.0.1 ${localPort} ${front}`)
      expect(rest === 'hello' || rest === '').toBe(true)
    } else {
      expect([...said.subarray(12, 20)]).toEqual([0x21, 0x11, 0, 12, 127, 1, 2, 3])
      expect(said.readUInt16BE(24)).toBe(localPort)
      expect(said.readUInt16BE(26)).toBe(front)
    }
  },
)

test('a client that still speaks to an upstream that has closed hears of it', async () => {
  const upstream = await startRawUpstream((socket) => {
    socket.once('data', () => socket.end('bye', () => socket.destroy()))
  })
  const gateway = await startTcpGateway([upstream])
  const { socket, received, all } = await connectTcp(gateway)
  // Unlike others it does not end with the other side.
  socket.removeAllListeners('end')
  socket.write('hello')
  await received(3)
  const timer = setInterval(() => socket.write('are you there?'), 10)
  await all
  clearInterval(timer)
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
})

test('a client that leaves is left', async () => {
  const upstream = await named('a')
  const gateway = await startTcpGateway([upstream])
  const { socket, received } = await connectTcp(gateway)
  await received(1)
  socket.resetAndDestroy()
  await upstream.empty()
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
  const half = await connectTcp(gateway)
  await half.received(1)
  half.socket.end()
  await once(half.socket, 'close')
  await upstream.empty()
})
