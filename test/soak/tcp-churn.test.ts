import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { tcpListener } from '../support/tcp.ts'

const seed = testSeed('tcp churn')
const durationMs = Number(process.env.EVENKEEL_TCP_CHURN_MS ?? 60_000)
const clients = 60

/** Answers with a digest of what it was sent; can be killed and come back at its port. */
class Digester {
  port = 0
  private server: Server | null = null
  private readonly sockets = new Set<Socket>()

  async start(): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
      socket.on('error', () => {})
      const hash = createHash('sha256')
      socket.on('data', (data) => hash.update(data))
      socket.on('end', () => socket.end(hash.digest('hex')))
    })
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as AddressInfo).port
    this.server = server
  }

  /** Connections that were open. */
  kill(): number {
    const open = this.sockets.size
    for (const socket of this.sockets) socket.resetAndDestroy()
    this.server?.close()
    this.server = null
    return open
  }

  get isUp(): boolean {
    return this.server !== null
  }

  get open(): number {
    return this.sockets.size
  }
}

/** Resolves with whether the whole answer came. Throws for a wrong one. */
async function exchange(port: number, bytes: Buffer): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => {})
  let answer = ''
  socket.on('data', (data) => {
    answer += data
  })
  const closed = new Promise((resolve) => socket.on('close', resolve))
  socket.end(bytes)
  await closed
  if (answer === '') return false
  expect(answer).toBe(createHash('sha256').update(bytes).digest('hex'))
  return true
}

test(`exchanges over tcp are whole, or end with their upstream (seed ${seed})`, async () => {
  const random = createRandom(seed)
  const upstreams = [new Digester(), new Digester(), new Digester()]
  for (const upstream of upstreams) await upstream.start()
  onTestFinished(() => {
    for (const upstream of upstreams) upstream.kill()
  })
  const urls = upstreams.map(({ port }) => `tcp://127.0.0.1:${port}`)
  const probe = { intervalMs: 200, timeoutMs: 1_000, failures: 2 }
  const gateway = await startTestGateway({
    pools: { db: { upstreams: urls, migrate: 'drain', probe } },
    tcp: [tcpListener({ pool: 'db' })],
  } as never)
  const until = performance.now() + durationMs
  const count = { whole: 0, cut: 0, kills: 0, killed: 0, faults: 0 }
  const drained = new Set<Digester>()
  const run = async () => {
    while (performance.now() < until) {
      const bytes = randomBytes(random.int(0, random.chance(0.1) ? 2_000_000 : 2_000))
      if (await exchange(gateway.tcpPorts[0]!, bytes)) count.whole++
      else count.cut++
    }
  }
  const harm = async () => {
    while (performance.now() < until) {
      await sleep(random.int(50, 400))
      count.faults++
      const upstream = random.pick(upstreams)
      const id = `127.0.0.1:${upstream.port}`
      const serving = upstreams.some((one) => one !== upstream && one.isUp && !drained.has(one))
      if (!upstream.isUp) {
        await upstream.start()
        // Until the gateway has seen it.
        await sleep(1_000)
      } else if (serving && random.chance(0.4)) {
        count.kills++
        count.killed += upstream.kill()
      } else if (drained.delete(upstream)) gateway.operator.activate(id)
      else if (serving) {
        drained.add(upstream)
        gateway.operator.drain(id, { deadlineMs: 60_000 })
      }
    }
  }
  await Promise.all([harm(), ...Array.from({ length: clients }, run)])
  console.log(count)
  expect(count.whole).toBeGreaterThan(100)
  // A connection that an upstream has not looked at yet is cut with it.
  expect(count.cut).toBeLessThanOrEqual(count.killed + 3 * count.kills)
  expect(gateway.operator.counters.connections.tcp).toBe(0)
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
  for (const node of gateway.operator.nodes()) expect(node.sessionsHere).toBe(0)
  await expect.poll(() => upstreams.reduce((sum, { open }) => sum + open, 0)).toBe(0)
})
