import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { createRandom } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, until } from '../support/socket-io.ts'
import { type AdapterKind, adapterOf, emitterOf, startPlainServer } from '../support/socket-io-adapter.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const moves = Number(process.env.MOVES ?? 200)

const app = (io: Server) => {
  io.on('connection', (socket) => {
    if (!socket.recovered) void socket.join(['all', `room ${Number(socket.handshake.auth.n) % 2}`])
  })
}

test.each<[AdapterKind, number[]]>([
  ['redis', [0, 0, 0]],
  ['redis', [0, 20, 60]],
  ['sharded', [0, 0, 0]],
  ['streams', [0, 0, 0]],
])(
  `by a %s adapter with lags of %j ms every broadcast comes once, in the order of who sends it (SEED=${seed} MOVES=${moves})`,
  {
    timeout: 120_000,
  },
  async (kind, lags) => {
    const random = createRandom(seed)
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const gateway = await startTestGateway({ rebalance: { enabled: false } as never })
    const nodes = await Promise.all(
      ['a', 'b', 'c'].map((id, i) =>
        startSocketIoNode([gateway], app, { id, rooms: 'adapter', adapter: adapterOf(redis, kind, lags[i]) }),
      ),
    )
    const plain = await startPlainServer(redis, app, { id: 'plain', kind })
    const emitter = emitterOf(redis)
    const clients = await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        connectClient(gateway, { transports: ['websocket'], auth: { n } }),
      ),
    )
    clients.push(await connectClient(plain, { auth: { n: 12 } }))
    const heard = clients.map((client) => {
      const numbers = new Map<string, number[]>()
      client.on('n', (from: string, n: number) => {
        const known = numbers.get(from)
        if (known === undefined) numbers.set(from, [n])
        else known.push(n)
      })
      return numbers
    })
    const ios = [...nodes.map(({ io }) => io), plain.io]
    await until(async () => (await plain.io.in('all').fetchSockets()).length === clients.length)

    const migrations = new Migrations(gateway)
    const sent = new Map<string, number>()
    const say = (from: string, to: { emit(event: string, from: string, n: number): unknown }) => {
      const n = (sent.get(from) ?? 0) + 1
      sent.set(from, n)
      to.emit('n', from, n)
    }
    let going = true
    const talking = (async () => {
      while (going) {
        const index = random.int(0, 3)
        say(`server ${index}`, ios[index]!.to('all'))
        say(`server ${index} to two`, ios[index]!.to('room 0').to('room 1'))
        if (kind === 'redis') say('emitter', emitter.to('all'))
        await delay(1)
      }
    })()
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        while (migrations.ended.length < moves) {
          const session = random.pick(gateway.operator.sessions({ limit: 100 }).sessions)
          try {
            gateway.operator.migrate(
              session.id,
              random.pick(nodes.filter(({ id }) => id !== session.node)).id,
            )
          } catch {
            // It moves already.
          }
          await delay(random.int(0, 10))
        }
      }),
    )
    going = false
    await talking
    await until(() =>
      gateway.operator.sessions({ limit: 100 }).sessions.every(({ state }) => state === 'active'),
    )
    for (const io of ios) io.emit('end')
    await until(() =>
      heard.every((numbers) => [...sent].every(([from, n]) => (numbers.get(from)?.at(-1) ?? 0) >= n)),
    ).catch(() => {})
    const complaints = heard.flatMap((numbers, i) =>
      [...sent].flatMap(([from, count]) => {
        const got = numbers.get(from) ?? []
        const known = new Set(got)
        const lost = count - known.size
        const doubled = got.length - known.size
        const isOrdered = got.every((n, at) => at === 0 || n > got[at - 1]!)
        return lost === 0 && doubled === 0 && isOrdered
          ? []
          : [
              `client ${i} of ${from} (${count}): ${lost} lost, ${doubled} doubled${isOrdered ? '' : ', out of order'}`,
            ]
      }),
    )
    const moved = migrations.outcomes.filter((outcome) => outcome === 'moved').length
    const pauses = migrations.ended.flatMap(({ pauseMs }) => pauseMs ?? []).sort((a, b) => a - b)
    const quantile = (share: number) => pauses[Math.floor(share * (pauses.length - 1))]!.toFixed(1)
    const total = heard.reduce((sum, numbers) => sum + [...numbers.values()].flat().length, 0)
    console.log(
      `seed ${seed}: ${moved} of ${migrations.ended.length} moved, ${total} broadcasts delivered, pause p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms`,
    )
    expect(complaints).toEqual([])
    expect(moved).toBeGreaterThan(moves * 0.7)
    expect(clients.flatMap(({ losses }) => losses)).toEqual([])
  },
)
