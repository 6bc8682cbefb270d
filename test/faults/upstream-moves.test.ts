import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { NumberedWs, UpstreamLedger, upTo } from '../support/upstream-ledger.ts'
import {
  connectWs,
  noSessions,
  startUpstreamGateway,
  startWsUpstream,
  type WsUpstream,
} from '../support/upstreams.ts'

async function connect(gateway: TestGateway, client: string): Promise<NumberedWs> {
  return NumberedWs.connect(`ws://127.0.0.1:${gateway.publicPort}/?client=${client}`)
}

async function ended(gateway: TestGateway, id: string): Promise<string> {
  for (;;) {
    const { state } = gateway.operator.operation(id)
    if (state !== 'running') return state
    await sleep(10)
  }
}

function nodeOf(gateway: TestGateway, all: WsUpstream[]): WsUpstream {
  const [session] = gateway.operator.sessions().sessions
  return all.find(({ id }) => id === session!.node)!
}

test('redial: a session moves under load, every message once and in order, both ways', async () => {
  const ledger = new UpstreamLedger()
  const all = [await ledger.start(), await ledger.start(), await ledger.start()]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  const client = await connect(gateway, 'c')
  const timer = setInterval(() => client.send(2), 1)
  onTestFinished(() => clearInterval(timer))
  const migrations = new Migrations(gateway)
  const [session] = gateway.operator.sessions().sessions
  for (let i = 0; i < 30; i++) {
    const at = gateway.operator.session(session!.id).node
    const to = all.filter(({ id }) => id !== at)[i % 2]!
    expect(await migrations.start(session!.id, to.id)).toMatchObject({ outcome: 'moved' })
  }
  clearInterval(timer)
  await client.until(() => client.answers.length >= client.sent)
  // An answer from a timer may come after the next one's, as it does without a gateway.
  expect(client.answers.toSorted((a, b) => a - b)).toEqual(upTo(client.sent))
  expect(ledger.received.get('c')).toEqual(upTo(client.sent))
  expect(client.closed).toBeNull()
  expect(gateway.operator.session(session!.id).migrations).toBe(30)
  // Each upstream that it left was told so, and has no connection of it left.
  for (const { wss } of all)
    while (wss.clients.size > (wss === nodeOf(gateway, all).wss ? 1 : 0)) await sleep(10)
})

test('redial: what the former upstream had sent comes before what the next one sends', async () => {
  const pieces = 200
  const chatty = (name: string) =>
    startWsUpstream((ws) => {
      for (let i = 0; i < pieces; i++) ws.send(`${name} ${i} ${'x'.repeat(1_000)}`)
    })
  const all = [await chatty('first'), await chatty('second')]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  const client = await connect(gateway, 'c')
  const [session] = gateway.operator.sessions().sessions
  const from = nodeOf(gateway, all)
  const to = all.find((one) => one !== from)!
  const migrations = new Migrations(gateway)
  await migrations.start(session!.id, to.id)
  await client.until(() => client.others.length >= 2 * pieces)
  const names = client.others.map((text) => text.split(' ').slice(0, 2).join(' '))
  const [one, other] = from === all[0] ? ['first', 'second'] : ['second', 'first']
  expect(names).toEqual(
    [one, other].flatMap((name) => Array.from({ length: pieces }, (_, i) => `${name} ${i}`)),
  )
})

test('redial: the source is closed with 1001, the target gets the handshake of the client', async () => {
  const closes: number[] = []
  const handshakes: unknown[] = []
  const upstream = () =>
    startWsUpstream(
      (ws, { url, headers }) => {
        handshakes.push([url, headers.cookie, headers['x-forwarded-for'], ws.protocol])
        ws.on('close', (code) => closes.push(code))
      },
      () => 'chat',
    )
  const all = [await upstream(), await upstream()]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  await connectWs(gateway, '/room?x', ['other', 'chat'], { headers: { cookie: 'a=b' } })
  const [session] = gateway.operator.sessions().sessions
  const migrations = new Migrations(gateway)
  const source = nodeOf(gateway, all)
  const [serverSide] = source.wss.clients
  const closed = once(serverSide!, 'close')
  await migrations.start(session!.id, all.find((one) => one !== source)!.id)
  await closed
  expect(closes).toEqual([1001])
  expect(handshakes).toEqual([
    ['/room?x', 'a=b', '127.0.0.1', 'chat'],
    ['/room?x', 'a=b', '127.0.0.1', 'chat'],
  ])
})

test('redial: a target that speaks another subprotocol than the client has is none', async () => {
  let subprotocol: string | false = 'chat'
  const all = [
    await startWsUpstream(
      () => {},
      () => subprotocol,
    ),
    await startWsUpstream(
      () => {},
      () => subprotocol,
    ),
  ]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  const ws = await connectWs(gateway, '/', ['chat'])
  subprotocol = false
  const [session] = gateway.operator.sessions().sessions
  const source = nodeOf(gateway, all)
  const migrations = new Migrations(gateway)
  const target = all.find((one) => one !== source)!
  expect(await migrations.start(session!.id, target.id)).toMatchObject({ outcome: 'vetoed' })
  expect(ws.readyState).toBe(ws.OPEN)
  await target.empty()
})

test('redial: upstreams that accept and break at once are not dialled without end', async () => {
  let accepted = 0
  const hasty = () =>
    startWsUpstream((ws) => {
      accepted++
      ws.terminate()
    })
  const gateway = await startUpstreamGateway([await hasty(), await hasty()], {
    migrate: 'redial',
    config: { limits: { holdMs: 1_500 } },
  })
  const client = await connect(gateway, 'c')
  await client.until(() => client.closed !== null)
  expect(client.closed).toMatchObject({ code: 1013 })
  // Both at first, and again each second.
  expect(accepted).toBeLessThanOrEqual(8)
  await noSessions(gateway)
})

test('redial: an upstream that sends too much at once is not exchanged for another one', async () => {
  let accepted = 0
  const upstream = () =>
    startWsUpstream((ws) => {
      accepted++
      ws.send(Buffer.alloc(2 * 1024 * 1024))
    })
  const gateway = await startUpstreamGateway([await upstream(), await upstream()], { migrate: 'redial' })
  const client = await connect(gateway, 'c')
  await client.until(() => client.closed !== null)
  expect(client.closed).toMatchObject({ code: 1009 })
  expect(accepted).toBe(1)
})

test('redial: a target that refuses, or cannot be reached, changes nothing', async () => {
  const ledger = new UpstreamLedger()
  const source = await ledger.start()
  const unwilling = await startWsUpstream(() => {})
  unwilling.wss.options.verifyClient = () => false
  const gateway = await startUpstreamGateway([source], { migrate: 'redial' })
  const both = await startUpstreamGateway([source, unwilling], { migrate: 'redial' })
  expect(gateway.operator.nodes()).toHaveLength(1)
  let client: NumberedWs | null = null
  while (client === null) client = await connect(both, 'c').catch(() => null)
  const [session] = both.operator.sessions().sessions
  const migrations = new Migrations(both)
  expect(await migrations.start(session!.id, unwilling.id)).toMatchObject({ outcome: 'vetoed' })
  await unwilling.kill()
  expect(await migrations.start(session!.id, unwilling.id)).toMatchObject({ outcome: 'refused' })
  client.send(5)
  await client.until(() => client.answers.length === 5)
  expect(ledger.received.get('c')).toEqual(upTo(5))
})

test('redial: an upstream that dies is followed by another one; what was not sent goes there', async () => {
  const ledger = new UpstreamLedger()
  const all = [await ledger.start(), await ledger.start()]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  const clients = await Promise.all(Array.from({ length: 20 }, (_, i) => connect(gateway, String(i))))
  for (const client of clients) {
    client.send(3)
    await client.until(() => client.answers.length === 3)
  }
  await all[0]!.kill()
  for (const client of clients) client.send(3)
  // Messages that were on their way into the dead one's socket are lost, as with any connection; nothing comes twice or out of order.
  while (gateway.operator.sessions().sessions.some(({ node }) => node !== all[1]!.id)) await sleep(5)
  for (const client of clients) client.send(1)
  for (const client of clients) await client.until(() => client.answers.includes(7))
  for (const [, numbers] of ledger.received)
    expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b))
  expect(all[1]!.wss.clients.size).toBe(20)
  expect(clients.filter(({ closed }) => closed !== null)).toEqual([])
})

test('redial: messages sent while no upstream is left are held until there is one', async () => {
  const ledger = new UpstreamLedger()
  const upstream = await ledger.start()
  const gateway = await startUpstreamGateway([upstream], { migrate: 'redial' })
  const client = await connect(gateway, 'c')
  client.send(1)
  await client.until(() => client.answers.length === 1)
  const port = Number(upstream.id.split(':')[1])
  await upstream.kill()
  while (gateway.operator.sessions().sessions[0]!.state !== 'waiting') await sleep(5)
  client.send(10)
  await sleep(50)
  expect(client.closed).toBeNull()
  const { WebSocketServer } = await import('ws')
  const back = new WebSocketServer({ port, host: '127.0.0.1' })
  onTestFinished(() => back.close())
  const received: number[] = []
  back.on('connection', (ws) => {
    ws.on('message', (data) => {
      received.push(Number(data))
      ws.send(`a ${data}`)
    })
  })
  await client.until(() => client.answers.length === 11)
  expect(received).toEqual(upTo(11).slice(1))
})

test('redial: none comes back in time: the client is closed with 1013', async () => {
  const ledger = new UpstreamLedger()
  const upstream = await ledger.start()
  const gateway = await startUpstreamGateway([upstream], {
    migrate: 'redial',
    config: { limits: { holdMs: 300 } },
  })
  const client = await connect(gateway, 'c')
  await upstream.kill()
  await client.until(() => client.closed !== null)
  expect(client.closed).toMatchObject({ code: 1013 })
  await noSessions(gateway)
})

test('redial: a drain moves all sessions, and their clients notice nothing', async () => {
  const ledger = new UpstreamLedger()
  const all = [await ledger.start(), await ledger.start()]
  const gateway = await startUpstreamGateway(all, { migrate: 'redial' })
  const clients = await Promise.all(Array.from({ length: 40 }, (_, i) => connect(gateway, String(i))))
  const timer = setInterval(() => {
    for (const client of clients) client.send(1)
  }, 5)
  onTestFinished(() => clearInterval(timer))
  await sleep(50)
  const operation = gateway.operator.drain(all[0]!.id)
  expect(await ended(gateway, operation.id)).toBe('done')
  expect(gateway.operator.operation(operation.id)).toMatchObject({ moved: 20, failed: 0 })
  clearInterval(timer)
  for (const [i, client] of clients.entries()) {
    await client.until(() => client.answers.length >= client.sent)
    expect(client.closed).toBeNull()
    expect(ledger.received.get(String(i))).toEqual(upTo(client.sent))
    expect(client.answers.toSorted((a, b) => a - b)).toEqual(upTo(client.sent))
  }
  expect(gateway.operator.node(all[0]!.id)).toMatchObject({ state: 'drained', sessions: 0 })
  gateway.operator.activate(all[0]!.id)
  // The planner brings back what the weights ask for.
  while (gateway.operator.node(all[0]!.id).sessions < 19) await sleep(20)
})

test('drain: live sessions stay until they end; new ones go elsewhere', async () => {
  const ledger = new UpstreamLedger()
  const all = [await ledger.start(), await ledger.start()]
  const gateway = await startUpstreamGateway(all)
  const clients = await Promise.all(Array.from({ length: 10 }, (_, i) => connect(gateway, String(i))))
  const operation = gateway.operator.drain(all[0]!.id)
  const later = await Promise.all(Array.from({ length: 10 }, (_, i) => connect(gateway, `late-${i}`)))
  expect(all.map(({ wss }) => wss.clients.size)).toEqual([5, 15])
  for (const client of [...clients, ...later]) {
    client.send(5)
    await client.until(() => client.answers.length === 5)
  }
  expect(gateway.operator.operation(operation.id)).toMatchObject({ state: 'running', moved: 0 })
  const [session] = gateway.operator.sessions({ node: all[0]!.id }).sessions
  expect(() => gateway.operator.migrate(session!.id, all[1]!.id)).toThrow(/cannot be moved/)
  for (const client of clients) client.ws.close(1000)
  expect(await ended(gateway, operation.id)).toBe('done')
  expect(gateway.operator.node(all[0]!.id).state).toBe('drained')
})

test('drain: at the deadline clients are closed with 1012 between two messages, and their last ones arrive', async () => {
  const size = 300_000
  const whole: number[] = []
  const upstream = await startWsUpstream((ws) => {
    ws.on('message', (data) => whole.push((data as Buffer).length))
    const timer = setInterval(() => ws.send(Buffer.alloc(size, 1)), 2)
    ws.on('close', () => clearInterval(timer))
  })
  const gateway = await startUpstreamGateway([upstream])
  const ws = await connectWs(gateway)
  const received: number[] = []
  ws.on('message', (data) => received.push((data as Buffer).length))
  const timer = setInterval(() => {
    if (ws.readyState === ws.OPEN) ws.send(Buffer.alloc(size, 2))
  }, 2)
  onTestFinished(() => clearInterval(timer))
  const closed = once(ws, 'close')
  const [serverSide] = upstream.wss.clients
  const end = once(serverSide!, 'close')
  const operation = gateway.operator.drain(upstream.id, { deadlineMs: 200 })
  expect((await closed).map(String)).toEqual(['1012', 'the server is drained'])
  expect((await end)[0]).toBe(1001)
  expect(received.length).toBeGreaterThan(0)
  expect(new Set([...received, ...whole])).toEqual(new Set([size]))
  expect(await ended(gateway, operation.id)).toBe('done')
})
