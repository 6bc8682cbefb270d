import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { createRandom } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'
import { connectClient, connectLedgerClient, startSocketIoNode, until } from '../support/socket-io.ts'
import { adapterOf } from '../support/socket-io-adapter.ts'
import { judgeSocketIo, nothingKilled, nothingWrong } from '../support/socket-io-judge.ts'
import { Caster, type LedgerClient, ledgerApp, type Note } from '../support/socket-io-ledger.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const moves = Number(process.env.MOVES ?? 400)

/** Nodes of this process whose notes are put together. */
async function ledgerWorld(ids: readonly string[], rooms: 'gateway' | 'adapter' = 'gateway') {
  const redis = rooms === 'adapter' ? await RedisServer.start() : null
  onTestFinished(() => redis?.stop())
  const gateway = await startTestGateway({ rebalance: { enabled: false } as never })
  const notes: Note[] = []
  const own = () => (redis === null ? {} : { rooms, adapter: adapterOf(redis) })
  const addNode = async (id: string) => {
    const app = (io: Server) => ledgerApp(io, id, (note) => notes.push(note))
    const node = await startSocketIoNode([gateway], app, { id, ...own() })
    return { ...node, caster: new Caster(node.io, id, (note) => notes.push(note)) }
  }
  return { gateway, notes, addNode, nodes: await Promise.all(ids.map(addNode)) }
}

/** Waits until the clients have what they wait for, and judges. */
async function verdictOf(clients: readonly LedgerClient[], notes: readonly Note[]) {
  const broadcasts = notes.filter(({ what }) => what === 'cast').length
  const has = (client: LedgerClient) =>
    client.missing === 0 && Object.values(client.present!.casts).flat().length === broadcasts
  await until(() => clients.every(has)).catch(() => {})
  await Promise.all(clients.map((client) => client.takeAccount(5_000)))
  return judgeSocketIo(
    clients.map(({ epochs }) => epochs),
    notes,
    nothingKilled,
  )
}

test.each(['gateway', 'adapter'] as const)(
  `sessions in rooms of the %s move at random and nobody notices (SEED=${seed} MOVES=${moves})`,
  {
    timeout: 120_000,
  },
  async (rooms) => {
    const random = createRandom(seed)
    const { gateway, notes, nodes } = await ledgerWorld(['a', 'b', 'c'], rooms)
    const kinds = [['websocket'], ['polling'], ['polling', 'websocket']]
    const clients = await Promise.all(
      Array.from({ length: 18 }, (_, i) => connectLedgerClient(gateway, kinds[i % 3]!)),
    )
    await until(async () => (await nodes[0]!.io.in('all').fetchSockets()).length === clients.length)
    const migrations = new Migrations(gateway)
    let going = true
    const talking = (async () => {
      while (going) {
        for (const client of random.sample(clients, 6)) client.talk(random)
        nodes[1]!.caster.cast()
        await delay(2)
      }
    })()
    const workers = Array.from({ length: 5 }, async () => {
      while (migrations.ended.length < moves) {
        const { sessions } = gateway.operator.sessions({ limit: 100 })
        const session = random.pick(sessions)
        const target = random.pick(nodes.filter(({ id }) => id !== session.node))
        try {
          gateway.operator.migrate(session.id, target.id)
        } catch {
          // It moves already.
        }
        await delay(random.int(0, 6))
      }
    })
    await Promise.all(workers)
    going = false
    await talking
    await until(() =>
      gateway.operator.sessions({ limit: 100 }).sessions.every(({ state }) => state === 'active'),
    )
    const verdict = await verdictOf(clients, notes)
    const moved = migrations.outcomes.filter((outcome) => outcome === 'moved').length
    const pauses = migrations.ended
      .flatMap(({ pauseMs }) => (pauseMs === null ? [] : [pauseMs]))
      .sort((a, b) => a - b)
    const quantile = (share: number) => pauses[Math.floor(share * (pauses.length - 1))]!.toFixed(1)
    const times = `pause p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms`
    console.log(`seed ${seed}: ${moved} of ${migrations.ended.length} moved, ${times}`)
    expect(verdict).toMatchObject({ ...nothingWrong, clients: 18, redelivered: 0, rolledBack: 0 })
    expect(verdict.casts).toBeGreaterThan(0)
    expect(moved).toBeGreaterThan(moves * 0.7)
  },
)

test('a drained node is left with nothing, and its clients have noticed nothing', async () => {
  const random = createRandom(seed)
  const { gateway, notes, addNode, nodes } = await ledgerWorld(['a'])
  const first = nodes[0]!
  const clients = await Promise.all(
    Array.from({ length: 20 }, () => connectLedgerClient(gateway, ['websocket'])),
  )
  await until(async () => (await first.io.in('all').fetchSockets()).length === clients.length)
  const second = await addNode('b')
  for (const client of clients) for (let i = 0; i < 5; i++) client.talk(random)
  await first.drain()
  expect(first.io.sockets.sockets.size).toBe(0)
  for (const client of clients) client.talk(random)
  second.caster.cast()
  expect(await verdictOf(clients, notes)).toMatchObject({ ...nothingWrong, clients: 20 })
  expect(second.io.sockets.sockets.size).toBe(20)
})

test('middlewares run on the target before the session moves, and may keep it where it is', async () => {
  const gateway = await startTestGateway()
  let entry = true
  const events: string[] = []
  const nodes = await Promise.all(
    ['a', 'b'].map((id) =>
      startSocketIoNode(
        [gateway],
        (io) => {
          io.use(async (socket, next) => {
            await delay(20)
            Object.assign(socket, { user: socket.handshake.auth.user })
            next(entry ? undefined : new Error('no entry'))
          })
          io.on('connection', (socket) => {
            events.push(`${id} connection ${socket.recovered}`)
            socket.on('disconnect', (reason) => events.push(`${id} disconnect ${reason}`))
            socket.on('who', (answer) => answer((socket as unknown as { user: string }).user, id))
          })
        },
        { id },
      ),
    ),
  )
  const migrations = new Migrations(gateway)
  const client = await connectClient(gateway, { auth: { user: 'ann' } })
  const [session] = gateway.operator.sessions({}).sessions
  const [source, target] = session!.node === 'a' ? ['a', 'b'] : ['b', 'a']
  expect((await migrations.start(session!.id, target)).outcome).toBe('moved')
  expect(await new Promise((resolve) => client.emit('who', (...who: unknown[]) => resolve(who)))).toEqual([
    'ann',
    target,
  ])
  await until(() => events.length === 3)
  expect(events.sort()).toEqual(
    [
      `${source} connection false`,
      `${source} disconnect server migration`,
      `${target} connection true`,
    ].sort(),
  )
  entry = false
  const vetoed = await migrations.start(session!.id, source)
  expect(vetoed.outcome).toBe('vetoed')
  expect(await new Promise((resolve) => client.emit('who', (...who: unknown[]) => resolve(who)))).toEqual([
    'ann',
    target,
  ])
  expect(client.losses).toEqual([])
  expect(nodes.map(({ io }) => io.sockets.sockets.size).sort()).toEqual([0, 1])
  expect(
    nodes.map(
      ({ io }) =>
        (io.sockets as unknown as { _preConnectSockets: Map<string, unknown> })._preConnectSockets.size,
    ),
  ).toEqual([0, 0])
})

test('what cannot travel keeps the session where it is, until it can', async () => {
  const gateway = await startTestGateway()
  let mayMove = true
  const imported: unknown[] = []
  await Promise.all(
    ['a', 'b'].map((id) =>
      startSocketIoNode(
        [gateway],
        (io) => {
          io.on('connection', (socket) => {
            socket.on('fill', (what, answer) => {
              socket.data.what =
                what === 'function'
                  ? () => 1
                  : what === 'much'
                    ? 'x'.repeat(80_000)
                    : new Map([[1, new Date(5)]])
              answer()
            })
            socket.on('get', (answer) => {
              const what = socket.data.what as Map<number, Date>
              answer(what.get(1)!.getTime(), id)
            })
          })
        },
        {
          id,
          canMove: () => mayMove,
          exportState: (socket: { id: string }) => ({ of: socket.id }),
          importState: (_socket: never, state: unknown) => void imported.push(state),
        },
      ),
    ),
  )
  const migrations = new Migrations(gateway)
  const client = await connectClient(gateway)
  const { id, node } = gateway.operator.sessions({}).sessions[0]!
  const target = node === 'a' ? 'b' : 'a'
  for (const what of ['function', 'much']) {
    await client.emitWithAck('fill', what)
    expect((await migrations.start(id, target)).outcome).toBe('vetoed')
  }
  await client.emitWithAck('fill', 'map')
  mayMove = false
  expect((await migrations.start(id, target)).outcome).toBe('vetoed')
  mayMove = true
  expect((await migrations.start(id, target)).outcome).toBe('moved')
  expect(await new Promise((resolve) => client.emit('get', (...got: unknown[]) => resolve(got)))).toEqual([
    5,
    target,
  ])
  expect(imported).toEqual([{ of: client.id }])
  expect(client.losses).toEqual([])
})

test('handlers in flight go on where they are: rooms, events, acknowledgements, an end', async () => {
  const gateway = await startTestGateway()
  const release = Promise.withResolvers<void>()
  await Promise.all(
    ['a', 'b'].map((id) =>
      startSocketIoNode(
        [gateway],
        (io) => {
          io.on('connection', (socket) => {
            socket.on('slow', async (answer) => {
              await release.promise
              await socket.join('late room')
              socket.emit('from', id)
              answer(id)
            })
            socket.on('rooms', (answer) => answer([...socket.rooms], id))
            socket.on('leave me', async () => {
              await delay(50)
              socket.disconnect()
            })
          })
        },
        { id },
      ),
    ),
  )
  const migrations = new Migrations(gateway)
  const client = await connectClient(gateway)
  const { id, node } = gateway.operator.sessions({}).sessions[0]!
  const target = node === 'a' ? 'b' : 'a'
  const from: string[] = []
  client.on('from', (name: string) => from.push(name))
  const answered = client.emitWithAck('slow')
  await client.emitWithAck('rooms')
  expect((await migrations.start(id, target)).outcome).toBe('moved')
  release.resolve()
  expect(await answered).toBe(node)
  expect(from).toEqual([node])
  await until(async () => {
    const rooms = (await client.emitWithAck('rooms')) as string[]
    return rooms.includes('late room')
  })
  client.emit('leave me')
  await client.emitWithAck('rooms')
  expect((await migrations.start(id, node!)).outcome).toBe('moved')
  await until(() => client.losses.length === 1)
  expect(client.losses).toEqual(['io server disconnect'])
})
