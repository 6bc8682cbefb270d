import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { until } from '../support/until.ts'

const byMessage = { pools: { default: { affinity: 'message' } } } as never
const ordered = { pools: { default: { affinity: 'message', orderBy: { json: 'room' } } } } as never

/** A client that knows which messages were answered, and by whom. */
class Client {
  readonly ws: WebSocket
  readonly answers: string[] = []
  closed: { code: number; reason: string } | null = null
  private readonly looks = new Set<() => void>()

  private constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data) => this.heard(String(data)))
    ws.on('close', (code, reason) => {
      this.closed = { code, reason: String(reason) }
      for (const look of [...this.looks]) look()
    })
  }

  static async open(gateway: TestGateway): Promise<Client> {
    const ws = new WebSocket(gateway.wsUrl)
    onTestFinished(() => ws.terminate())
    const client = new Client(ws)
    await once(ws, 'open')
    return client
  }

  until(condition: () => boolean, what: string): Promise<void> {
    return until(condition, this.looks, { what })
  }

  private heard(answer: string): void {
    this.answers.push(answer)
    for (const look of [...this.looks]) look()
  }
}

/** Answers with its id; counts what it has handled. */
function counting(id: string, handled: Record<string, number>): SessionHandlers {
  handled[id] = 0
  return {
    message(session, data) {
      handled[id]!++
      session.send(`${id} ${data}`)
    },
  }
}

test('a thousand messages a second of one client reach nodes of weight 1, 1, 2 by their weights', async () => {
  const gateway = await startTestGateway(byMessage)
  const handled: Record<string, number> = {}
  for (const [id, weight] of [
    ['a', 1],
    ['b', 1],
    ['c', 2],
  ] as const)
    await startTestNode(gateway, counting(id, handled), { id, weight })
  const client = await Client.open(gateway)
  const [total, perTick] = [2_000, 10]
  for (let sent = 0; sent < total; ) {
    for (let i = 0; i < perTick; i++) client.ws.send(String(sent++))
    await delay(10)
  }
  await client.until(() => client.answers.length === total, 'all answers')
  expect(new Set(client.answers.map((answer) => answer.slice(2))).size).toBe(total)
  for (const [id, part] of [
    ['a', 0.25],
    ['b', 0.25],
    ['c', 0.5],
  ] as const)
    expect(Math.abs(handled[id]! / total - part), JSON.stringify(handled)).toBeLessThan(0.1 * part)
  expect(gateway.operator.sessions().sessions).toMatchObject([
    { node: null, state: 'active', uncommitted: 0 },
  ])
})

test('a node that is busy gets fewer', async () => {
  const gateway = await startTestGateway(byMessage)
  const handled: Record<string, number> = {}
  await startTestNode(gateway, counting('fast', handled), { id: 'fast' })
  const slow = counting('slow', handled)
  await startTestNode(
    gateway,
    {
      async message(...args) {
        await delay(50)
        await slow.message!(...args)
      },
    },
    { id: 'slow' },
  )
  const client = await Client.open(gateway)
  for (let sent = 0; sent < 200; sent++) {
    client.ws.send(String(sent))
    await delay(2)
  }
  await client.until(() => client.answers.length === 200, 'all answers')
  expect(handled.slow).toBeGreaterThan(2)
  expect(handled.fast! / handled.slow!).toBeGreaterThan(3)
})

test('messages with one ordering key keep their order, over all nodes', async () => {
  const gateway = await startTestGateway(ordered)
  const nodesOf = new Map<string, Set<string>>()
  const begun = new Map<string, number[]>()
  let overlapping = 0
  const busy = new Set<string>()
  const handlers = (id: string): SessionHandlers => ({
    async message(session, data) {
      const { room, n } = JSON.parse(String(data)) as { room: string; n: number }
      if (busy.has(room)) overlapping++
      busy.add(room)
      begun.set(room, [...(begun.get(room) ?? []), n])
      nodesOf.set(room, (nodesOf.get(room) ?? new Set()).add(id))
      await delay(n % 7)
      busy.delete(room)
      session.send(JSON.stringify({ room, n }))
    },
  })
  for (const id of ['a', 'b', 'c']) await startTestNode(gateway, handlers(id), { id })
  const client = await Client.open(gateway)
  const rooms = ['x', 'y', 'z', 'w']
  for (let n = 0; n < 60; n++) {
    for (const room of rooms) client.ws.send(JSON.stringify({ room, n }))
    await delay(n % 10 === 0 ? 60 : 3)
  }
  await client.until(() => client.answers.length === 60 * rooms.length, 'all answers')
  const inOrder = Array.from({ length: 60 }, (_, n) => n)
  for (const room of rooms) {
    expect(begun.get(room)).toEqual(inOrder)
    const answers = client.answers.map((one) => JSON.parse(one) as { room: string; n: number })
    expect(answers.filter((one) => one.room === room).map(({ n }) => n)).toEqual(inOrder)
    // Between bursts a key is free to go elsewhere.
    expect(nodesOf.get(room)!.size).toBeGreaterThan(1)
  }
  expect(overlapping).toBe(0)
})

test('what a node that goes has not committed is delivered to others, marked and in order', async () => {
  const gateway = await startTestGateway(ordered)
  const got: { n: number; redelivered: boolean }[] = []
  const stuck = await startTestNode(gateway, { message: () => new Promise<void>(() => {}) }, { id: 'a' })
  const client = await Client.open(gateway)
  for (let n = 0; n < 5; n++) client.ws.send(JSON.stringify({ room: 'x', n }))
  await expect.poll(() => gateway.operator.sessions().sessions[0]!.uncommitted).toBe(5)
  await startTestNode(
    gateway,
    {
      message(session, data, { redelivered }) {
        const { n } = JSON.parse(String(data)) as { n: number }
        got.push({ n, redelivered })
        session.send(String(n))
      },
    },
    { id: 'b' },
  )
  client.ws.send(JSON.stringify({ room: 'y', n: 100 }))
  await client.until(() => client.answers.length === 1, 'the answer of b')
  client.ws.send(JSON.stringify({ room: 'x', n: 5 }))
  await stuck.stop()
  await client.until(() => client.answers.length === 7, 'all answers')
  expect(got.map(({ n }) => n)).toEqual([100, 0, 1, 2, 3, 4, 5])
  expect(got.filter(({ redelivered }) => redelivered).length).toBeGreaterThan(4)
  expect(gateway.operator.counters.messagesLost).toBe(0)
})

test('a node that drains is left when it is idle, and one that joins gets its part', async () => {
  const gateway = await startTestGateway(byMessage)
  const handled: Record<string, number> = {}
  for (const id of ['a', 'b']) await startTestNode(gateway, counting(id, handled), { id })
  const client = await Client.open(gateway)
  const say = async (count: number) => {
    const before = client.answers.length
    for (let i = 0; i < count; i++) client.ws.send('x')
    await client.until(() => client.answers.length === before + count, 'the answers')
  }
  await say(20)
  gateway.operator.drain('a')
  await expect.poll(() => gateway.operator.node('a').state).toBe('drained')
  const atA = handled.a!
  await startTestNode(gateway, counting('c', handled), { id: 'c' })
  await say(20)
  expect(handled.a).toBe(atA)
  expect(handled.c).toBe(10)
  client.ws.close()
  await expect.poll(() => gateway.operator.nodes().map(({ sessions }) => sessions)).toEqual([0, 0, 0])
  expect(gateway.operator.sessions().sessions).toEqual([])
})

test('without any node messages wait, and the next node gets them', async () => {
  const gateway = await startTestGateway(byMessage)
  const handled: Record<string, number> = {}
  const node = await startTestNode(gateway, counting('a', handled), { id: 'a' })
  const client = await Client.open(gateway)
  await node.stop()
  await expect.poll(() => gateway.operator.sessions().sessions[0]?.state).toBe('waiting')
  client.ws.send('1')
  client.ws.send('2')
  await expect.poll(() => gateway.operator.sessions().sessions[0]?.uncommitted).toBe(2)
  await startTestNode(gateway, counting('b', handled), { id: 'b' })
  await client.until(() => client.answers.length === 2, 'the answers')
  expect(client.answers).toEqual(['b 1', 'b 2'])
})

test('a session has no state', async () => {
  const gateway = await startTestGateway(byMessage)
  let thrown: unknown
  await startTestNode(gateway, {
    message(session) {
      try {
        session.state = 1
      } catch (error) {
        thrown = error
      }
      session.send('done')
    },
  })
  const client = await Client.open(gateway)
  client.ws.send('x')
  await client.until(() => client.answers.length === 1, 'the answer')
  expect(thrown).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('affinity') })
})

test('a node may close the session, and the other nodes hear of it', async () => {
  const gateway = await startTestGateway(byMessage)
  const ended: string[] = []
  for (const id of ['a', 'b']) {
    await startTestNode(
      gateway,
      {
        message(session, data) {
          if (data === 'close') session.close(4001, 'enough')
          else session.send(id)
        },
        close: (_, { cause, code }) => void ended.push(`${id} ${cause} ${code}`),
      },
      { id },
    )
  }
  const client = await Client.open(gateway)
  for (let i = 0; i < 4; i++) client.ws.send('x')
  await client.until(() => client.answers.length === 4, 'the answers')
  expect(new Set(client.answers)).toEqual(new Set(['a', 'b']))
  client.ws.send('close')
  await client.until(() => client.closed !== null, 'the end')
  expect(client.closed).toEqual({ code: 4001, reason: 'enough' })
  await expect.poll(() => ended.map((one) => one.slice(2)).toSorted()).toEqual(['client 4001', 'node 4001'])
  await expect.poll(() => gateway.operator.nodes().map(({ sessions }) => sessions)).toEqual([0, 0])
})

test('a client whose nodes do not keep up is not read further', async () => {
  const gateway = await startTestGateway({ ...(byMessage as object), limits: { inboxMessages: 8 } } as never)
  const release: (() => void)[] = []
  for (const id of ['a', 'b'])
    await startTestNode(
      gateway,
      { message: () => new Promise<void>((resolve) => void release.push(resolve)) },
      { id },
    )
  const client = await Client.open(gateway)
  for (let i = 0; i < 40; i++) client.ws.send('x'.repeat(100_000))
  const uncommitted = () => gateway.operator.sessions().sessions[0]!.uncommitted
  await expect.poll(uncommitted).toBeGreaterThan(7)
  await delay(100)
  expect(uncommitted()).toBeLessThan(20)
  let handled = 0
  const timer = setInterval(() => {
    for (const done of release.splice(0)) {
      done()
      handled++
    }
  }, 5)
  onTestFinished(() => clearInterval(timer))
  await expect.poll(() => handled, { timeout: 10_000 }).toBe(40)
})

test('a gateway that drains counts each client once, and lets all go', async () => {
  const gateway = await startTestGateway({
    ...(byMessage as object),
    limits: { gatewayDrainMs: 200 },
  } as never)
  const handled: Record<string, number> = {}
  for (const id of ['a', 'b']) await startTestNode(gateway, counting(id, handled), { id })
  const clients = await Promise.all([Client.open(gateway), Client.open(gateway)])
  for (const client of clients) {
    for (let i = 0; i < 4; i++) client.ws.send('x')
    await client.until(() => client.answers.length === 4, 'the answers')
  }
  const [own] = gateway.operator.gateways()
  expect(gateway.operator.drainGateway(own!.id).total).toBe(2)
  for (const client of clients) {
    await client.until(() => client.closed !== null, 'the end')
    expect(client.closed!.code).toBe(1012)
  }
  await expect.poll(() => gateway.operator.nodes().map(({ sessions }) => sessions)).toEqual([0, 0])
})
