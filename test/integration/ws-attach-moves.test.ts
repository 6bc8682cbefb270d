import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AttachOptions } from 'evenkeel/ws'
import { expect, onTestFinished, test } from 'vitest'
import { createWebSocketStream, WebSocket } from 'ws'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { type ConnectionHandler, quiet, startWsApp } from '../support/ws-app.ts'

type Config = Parameters<typeof startTestGateway>[0]

interface Client {
  readonly ws: WebSocket
  readonly got: string[]
  ask(message: string): Promise<string>
}

async function connect(gateway: TestGateway): Promise<Client> {
  const ws = new WebSocket(gateway.wsUrl)
  onTestFinished(() => ws.terminate())
  const got: string[] = []
  ws.on('message', (data) => got.push(String(data)))
  await once(ws, 'open')
  return {
    ws,
    got,
    async ask(message) {
      ws.send(message)
      return String((await once(ws, 'message'))[0])
    },
  }
}

/** One client at the application `a`; `b` is the same application. */
async function twoApps(
  app: (id: string) => ConnectionHandler,
  options: Partial<AttachOptions> = {},
  config: Config = {},
) {
  const gateway = await startTestGateway(config)
  const migrations = new Migrations(gateway)
  const a = await startWsApp(gateway, app('a'), { id: 'a', ...options })
  const client = await connect(gateway)
  await expect.poll(() => a.wss.clients.size).toBe(1)
  const b = await startWsApp(gateway, app('b'), { id: 'b', ...options })
  const session = gateway.operator.sessions().sessions[0]!.id
  const move = (to: string) => migrations.start(session, to)
  return { gateway, migrations, a, b, client, session, move }
}

/** Counts the messages of each connection, in a variable of its handler; two lines carry it along. */
function counting(events: string[] = []) {
  return (id: string): ConnectionHandler =>
    (ws, { session }) => {
      let count = (session.state as { count: number } | undefined)?.count ?? 0
      session.onExport(() => ({ count }))
      events.push(`${id} connection ${session.recovered} ${JSON.stringify(session.state)}`)
      ws.on('message', (data) => ws.send(`${id} ${++count} ${data}`))
      ws.on('close', (code, reason) => events.push(`${id} close ${code} ${reason}`))
    }
}

test('two lines carry state along; the client notices nothing', async () => {
  const events: string[] = []
  const { a, b, client, move } = await twoApps(counting(events))
  expect(await client.ask('x')).toBe('a 1 x')
  const [before] = a.wss.clients
  expect(await move('b')).toMatchObject({ outcome: 'moved' })
  expect(await client.ask('y')).toBe('b 2 y')
  expect(await move('a')).toMatchObject({ outcome: 'moved' })
  expect(await client.ask('z')).toBe('a 3 z')
  expect([a.wss.clients.size, b.wss.clients.size, a.wss.clients.has(before!)]).toEqual([1, 0, false])
  expect(client.ws.readyState).toBe(WebSocket.OPEN)
  client.ws.close(1000)
  await expect.poll(() => events.length).toBe(6)
  expect(events).toEqual([
    'a connection false undefined',
    'a close 1012 migrated',
    'b connection true {"count":1}',
    'b close 1012 migrated',
    'a connection true {"count":2}',
    'a close 1000 ',
  ])
})

test('an application without these lines is served too, and told that the session is not new', async () => {
  const { client, move } = await twoApps((id) => (ws, { session }) => {
    let count = 0
    ws.on('message', () => ws.send(`${id} ${++count} ${session.recovered} ${JSON.stringify(session.state)}`))
  })
  expect(await client.ask('x')).toBe('a 1 false undefined')
  await move('b')
  expect(await client.ask('y')).toBe('b 1 true undefined')
})

test('handlers that are in flight still answer, also when the session has come back', async () => {
  const { client, move } = await twoApps((id) => (ws) => {
    ws.on('message', (data) => {
      const [ms, name] = String(data).split(' ')
      setTimeout(() => {
        if (ws.readyState === WebSocket.OPEN) ws.send(`${id} ${name}`)
      }, Number(ms))
    })
  })
  client.ws.send('300 late')
  client.ws.send('600 later')
  client.ws.send('0 at-once')
  await expect.poll(() => client.got).toEqual(['a at-once'])
  await move('b')
  await expect.poll(() => client.got).toContain('a late')
  await move('a')
  await expect.poll(() => client.got).toEqual(['a at-once', 'a late', 'a later'])
})

test('a promise that a listener has returned is waited for, so that its part of the state travels', async () => {
  const { client, move } = await twoApps((id) => (ws, { session }) => {
    let count = (session.state as number | undefined) ?? 0
    session.onExport(async () => count)
    ws.on('message', async () => {
      await sleep(200)
      ws.send(`${id} ${++count}`)
    })
  })
  for (let i = 0; i < 3; i++) client.ws.send('x')
  expect(await move('b')).toMatchObject({ outcome: 'moved' })
  expect(await client.ask('x')).toMatch(/ [1-4]$/)
  await expect.poll(() => client.got.toSorted().map((text) => text.slice(2))).toEqual(['1', '2', '3', '4'])
  expect(client.got.at(-1)).toBe('b 4')
})

test('sequential: the next message waits, as it does not without', async () => {
  const app = (ws: WebSocket) => {
    let running = 0
    ws.on('message', async () => {
      running++
      await sleep(20)
      ws.send(String(running--))
    })
  }
  for (const [sequential, least] of [
    [true, 1],
    [false, 3],
  ] as const) {
    const gateway = await startTestGateway()
    await startWsApp(gateway, app, { sequential })
    const client = await connect(gateway)
    for (let i = 0; i < 3; i++) client.ws.send('x')
    await expect.poll(() => client.got.length).toBe(3)
    expect(client.got[0]).toBe(String(least))
  }
})

test('state that cannot be saved is reported, and what was saved before travels', async () => {
  const errors: string[] = []
  const logger = { ...quiet, error: (message: string) => errors.push(message) }
  const { client, move } = await twoApps(
    (id) =>
      (ws, { session }) => {
        ws.send(`${id} ${JSON.stringify(session.state)}`)
        session.state ??= { saved: 'early' }
        session.onExport(() => {
          throw new Error('no state today')
        })
      },
    { logger },
  )
  await move('b')
  await expect.poll(() => client.got).toEqual(['a undefined', 'b {"saved":"early"}'])
  expect(errors).toEqual([expect.stringMatching(/onExport .* failed.*no state today/s)])
})

test('a move that is called off: the same node goes on with what was saved', async () => {
  const events: string[] = []
  const { client, move } = await twoApps(
    (id) => (ws, context) => {
      counting(events)(id)(ws, context)
      if (!context.session.recovered)
        context.session.onExport(async () => {
          await sleep(400)
          return { count: 10 }
        })
    },
    {},
    { limits: { quiesceMs: 100 } },
  )
  await client.ask('x')
  expect(await move('b')).toMatchObject({ outcome: 'quiesce-timeout' })
  expect(await client.ask('y')).toBe('a 11 y')
  expect(events).toEqual([
    'a connection false undefined',
    'a close 1012 migrated',
    'a connection true {"count":10}',
  ])
})

test('a stream over a session that moves away ends, and the client does not', async () => {
  const ended: string[] = []
  const { client, move } = await twoApps((id) => (ws) => {
    const stream = createWebSocketStream(ws)
    stream.on('data', (data) => stream.write(`${id} ${data}`))
    stream.on('end', () => stream.end())
    stream.on('close', () => ended.push(id))
  })
  expect(await client.ask('x')).toBe('a x')
  await move('b')
  await expect.poll(() => ended).toEqual(['a'])
  expect(await client.ask('y')).toBe('b y')
})

test('what a client was sent and has not read leaves before the session does', async () => {
  const chunks = 12
  const { client, move, a } = await twoApps((id) => (ws) => {
    ws.on('message', () => ws.send(id))
  })
  client.ws.pause()
  const [ws] = a.wss.clients
  for (let i = 0; i < chunks; i++) ws!.send(String(i).padEnd(256 * 1024, '.'))
  expect(ws!.bufferedAmount).toBeGreaterThan(0)
  const moved = move('b')
  setTimeout(() => client.ws.resume(), 200)
  expect(await moved).toMatchObject({ outcome: 'moved' })
  expect(await client.ask('x')).toHaveLength(256 * 1024)
  await expect.poll(() => client.got.at(-1)).toBe('b')
  expect(client.got.slice(0, -1).map((text) => Number.parseInt(text, 10))).toEqual(
    Array.from({ length: chunks }, (_, i) => i),
  )
})

test('when its node dies a session goes on with the state that was assigned', async () => {
  const { client, a } = await twoApps((id) => (ws, { session }) => {
    ws.on('message', () => {
      const count = ((session.state as number | undefined) ?? 0) + 1
      session.state = count
      ws.send(`${id} ${count} ${session.recovered}`)
    })
  })
  expect(await client.ask('x')).toBe('a 1 false')
  await a.node.stop()
  expect(await client.ask('x')).toBe('b 2 true')
})

test('who has passed verifyClient stays, though the next node asks too: handlers need what it puts on the request', async () => {
  const asked: string[] = []
  let client: Client | undefined
  const gateway = await startTestGateway()
  const migrations = new Migrations(gateway)
  const echo: ConnectionHandler = (ws, request) =>
    ws.on('message', () => ws.send((request as unknown as { user: string }).user))
  for (const id of ['a', 'b']) {
    const verifyClient = ({ req }: { req: object }) => {
      asked.push(id)
      Object.assign(req, { user: `ada of ${id}` })
      return asked.length === 1
    }
    await startWsApp(gateway, echo, { id, verifyClient })
    if (id === 'b') break
    client = await connect(gateway)
    expect(await client.ask('x')).toBe('ada of a')
  }
  const [session] = gateway.operator.sessions().sessions
  await migrations.start(session!.id, 'b')
  expect(await client!.ask('x')).toBe('ada of b')
  expect(asked).toEqual(['a', 'b'])
})

test("with migrate: 'always' a new node gets its share; by default it does not", async () => {
  for (const [options, moves] of [
    [{ migrate: 'always' }, 3],
    [{}, 0],
  ] as const) {
    const gateway = await startTestGateway()
    const migrations = new Migrations(gateway)
    await startWsApp(gateway, counting()('a'), { id: 'a', ...options })
    const clients = []
    for (let i = 0; i < 8; i++) clients.push(await connect(gateway))
    for (const client of clients) expect(await client.ask('x')).toBe('a 1 x')
    await startWsApp(gateway, counting()('b'), { id: 'b', ...options })
    const [plan] = gateway.operator.rebalance()
    expect(plan!.total).toBe(moves)
    if (moves > 0) await migrations.nth(moves - 1)
    const answers = await Promise.all(clients.map((client) => client.ask('y')))
    expect(answers.filter((answer) => answer === 'b 2 y').length).toBe(moves)
    expect(answers.filter((answer) => answer === 'a 2 y').length).toBe(8 - moves)
  }
})
