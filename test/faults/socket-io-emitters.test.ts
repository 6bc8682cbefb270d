import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import type { NodeGroups, Way } from '../../src/sdk/groups.ts'
import { Emitters } from '../../src/sdk/socket-io/emitters.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { createRandom } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, startSocketIoNode, type TestClient, until } from '../support/socket-io.ts'
import { emitterOf } from '../support/socket-io-adapter.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

const app = (io: Server) => {
  io.on('connection', (socket) => {
    if (!socket.recovered) void socket.join('all')
  })
}

async function startRedis(): Promise<RedisServer> {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  return redis
}

/** Emits numbers every millisecond or so until it is told to stop; returns how many. */
function emitNumbers(redis: RedisServer): { stop(): Promise<number> } {
  const emitter = emitterOf(redis)
  let going = true
  let count = 0
  const done = (async () => {
    while (going) {
      emitter.to('all').emit('n', ++count)
      await delay(1)
    }
  })()
  return {
    async stop() {
      going = false
      await done
      return count
    },
  }
}

function listen(client: TestClient): number[] {
  const numbers: number[] = []
  client.on('n', (n: number) => numbers.push(n))
  return numbers
}

async function nodesAt(gateways: readonly TestGateway[], ids: readonly string[]): Promise<void> {
  for (const { operator } of gateways) {
    await until(() => {
      const healthy = operator.nodes().filter(({ health, state }) => health === 'healthy' && state !== 'down')
      return (
        healthy
          .map(({ id }) => id)
          .sort()
          .join() === [...ids].sort().join()
      )
    })
  }
}

test(`nodes come and go, sessions move, and what emitters publish comes once (SEED=${seed})`, {
  timeout: 90_000,
}, async () => {
  const random = createRandom(seed)
  const redis = await startRedis()
  const gateways = [await startTestGateway(), await startTestGateway()]
  const start = (id: string) => startSocketIoNode(gateways, app, { id, emitters: { redis: redis.url } })
  const nodes = new Map([
    ['b', await start('b')],
    ['c', await start('c')],
  ])
  await nodesAt(gateways, ['b', 'c'])
  const clients = await Promise.all(
    Array.from({ length: 12 }, (_, i) => connectClient(gateways[i % 2]!, { transports: ['websocket'] })),
  )
  await until(async () => (await nodes.get('b')!.io.in('all').fetchSockets()).length === clients.length)
  const heard = clients.map(listen)
  const emitting = emitNumbers(redis)
  let moves = 0
  for (let round = 0; round < 12; round++) {
    // Ids below and above those that are there: who casts changes each time, or not.
    const id = `${random.pick(['a', 'd'])}${round}`
    nodes.set(id, await start(id))
    await nodesAt(gateways, [...nodes.keys()])
    for (const { operator } of gateways) {
      for (const session of operator.sessions({ limit: 100 }).sessions) {
        try {
          operator.migrate(
            session.id,
            random.pick([...nodes.keys()].filter((other) => other !== session.node)),
          )
          moves++
        } catch {
          // It moves already.
        }
      }
    }
    await delay(random.int(20, 120))
    const gone = random.pick([...nodes.keys()])
    if (random.int(0, 1) === 0) await nodes.get(gone)!.drain()
    else await nodes.get(gone)!.stop()
    nodes.delete(gone)
    await nodesAt(gateways, [...nodes.keys()])
  }
  const count = await emitting.stop()
  await until(() => heard.every((numbers) => numbers.length >= count)).catch(() => {})
  await delay(100)
  const numbers = Array.from({ length: count }, (_, i) => i + 1)
  for (const got of heard) expect(got.toSorted((a, b) => a - b)).toEqual(numbers)
  const disordered = heard.flatMap((got) => got.filter((n, i) => i > 0 && n < got[i - 1]!)).length
  console.log(`seed ${seed}: ${count} emissions, ${moves} moves begun, ${disordered} out of order`)
  expect(clients.flatMap(({ losses }) => losses)).toEqual([])
})

test('when the node that casts hangs, the next one makes up for it', async () => {
  const redis = await startRedis()
  const limits = { heartbeatMs: 200, suspectMs: 600, downMs: 1_000 }
  const gateway = await startTestGateway({ limits: limits as never })
  const child = startChild({
    name: 'node a',
    script: 'test/support/socket-io-node.ts',
    args: ['--id=a', `--gateway=${gateway.linkUrl}`, `--emitters=${redis.url}`],
    ipc: true,
  })
  onTestFinished(async () => void (await kill(child)))
  await orExit(child, new Promise((resolve) => child.process.once('message', resolve)))
  await startSocketIoNode([gateway], app, { id: 'b', emitters: { redis: redis.url } })
  await nodesAt([gateway], ['a', 'b'])
  const clients = await Promise.all(Array.from({ length: 4 }, () => connectClient(gateway)))
  const heard = clients.map(listen)
  const emitting = emitNumbers(redis)
  await until(() => heard.every((numbers) => numbers.length > 50))
  child.process.kill('SIGSTOP')
  await nodesAt([gateway], ['b'])
  await delay(50)
  const count = await emitting.stop()
  await until(() => heard.every((numbers) => numbers.length >= count)).catch(() => {})
  child.process.kill('SIGCONT')
  await delay(200)
  const numbers = Array.from({ length: count }, (_, i) => i + 1)
  for (const got of heard) expect(got).toEqual(numbers)
})

test('who casts no longer goes on for a while: the one after it may have come late', async () => {
  const redis = await startRedis()
  const cast: string[] = []
  const way = {} as Way
  let leads = true
  const emitters = new Emitters(
    { redis: redis.url },
    {
      nodeId: 'a',
      groups: { ways: () => new Map([[way, leads]]) } as unknown as NodeGroups,
      warn: () => {},
      emit: (_way, _once, _namespace, _options, { data }) => cast.push(String(data[1])),
      operate: () => {},
      serverSideEmit: () => {},
    },
  )
  onTestFinished(() => emitters.close())
  await emitters.start()
  const emitter = emitterOf(redis)
  emitters.peersChanged()
  emitter.emit('n', 'leads')
  await until(() => cast.length === 1)
  leads = false
  emitters.peersChanged()
  emitter.emit('n', 'led')
  await until(() => cast.length === 2)
  expect(cast).toEqual(['leads', 'led'])
})

test('what is kept to be repeated has a bound, whatever is published', async () => {
  const redis = await startRedis()
  const numbers: number[] = []
  const way = { since: 0 } as Way
  let leads = false
  const emitters = new Emitters(
    { redis: redis.url },
    {
      nodeId: 'a',
      groups: { ways: () => new Map([[way, leads]]) } as unknown as NodeGroups,
      warn: () => {},
      emit: (_way, _once, _namespace, _options, { data }) => numbers.push(Number(data[1])),
      operate: () => {},
      serverSideEmit: (_namespace, [n]) => heard.push(Number(n)),
    },
  )
  const heard: number[] = []
  onTestFinished(() => emitters.close())
  await emitters.start()
  emitters.peersChanged()
  const emitter = emitterOf(redis)
  const piece = Buffer.alloc(64 * 1024)
  emitter.emit('n', 0, Buffer.alloc(5 * 1024 * 1024))
  for (let n = 1; n <= 200; n++) emitter.emit('n', n, piece)
  emitter.serverSideEmit(1)
  await until(() => heard.length === 1)
  leads = true
  emitters.peersChanged()
  expect(numbers.length).toBeGreaterThan(60)
  expect(numbers.length).toBeLessThan(65)
  expect(numbers.at(-1)).toBe(200)
})
