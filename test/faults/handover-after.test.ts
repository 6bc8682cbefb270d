import type { Session } from 'evenkeel/sdk'
import { describe, expect, test } from 'vitest'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import { startLinkedNode } from '../support/faulty-node.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { encodeRecord, json } from '../support/link-wire.ts'
import { Migrations } from '../support/migrations.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { output, ScriptedNode } from '../support/scripted-node.ts'

const seed = testSeed('handover-after')
const rebalance = { enabled: false }

describe('late outputs', () => {
  /** A session that has moved from one scripted node to another. */
  async function moved(lateOutputMs: number) {
    const gateway = await startTestGateway({ rebalance, limits: { lateOutputMs } })
    const source = await ScriptedNode.link(gateway, { id: 'a' })
    const client = await NumberedClient.connect(gateway.wsUrl)
    client.send(3)
    await client.answers()
    const target = await ScriptedNode.link(gateway, { id: 'b' })
    const before = [...source.sessions.values()][0]!
    const session = gateway.operator.sessions().sessions[0]!.id
    const migrations = new Migrations(gateway)
    await migrations.start(session, 'b')
    await source.next('release')
    return { gateway, source, target, client, before, migrations, session }
  }
  const dropped = ({ gateway }: Awaited<ReturnType<typeof moved>>) =>
    gateway.operator.counters.staleFramesDropped

  test('are delivered for a while, in their own order, and the session goes on', async () => {
    const stage = await moved(60_000)
    const { source, target, client, before } = stage
    for (let i = 1; i <= 3; i++) source.send(output(before, 0, `late ${i}`, RecordFlag.late))
    client.send(2)
    await client.answers()
    await client.until(() => client.others.length === 3, 'the late outputs')
    expect(client.others).toEqual(['late 1', 'late 2', 'late 3'])
    expect(client.verify()).toEqual([])
    expect(dropped(stage)).toBe(0)
    // The target's numbers go on from the source's last regular output.
    expect([...target.sessions.values()][0]!.out).toBe(5)
  })

  test('after lateOutputMs they are dropped and counted', async () => {
    const stage = await moved(1)
    const { source, client, before } = stage
    await new Promise((resolve) => setTimeout(resolve, 5))
    source.send(output(before, 0, 'too late', RecordFlag.late))
    await source.settled()
    expect(dropped(stage)).toBe(1)
    client.send(2)
    await client.answers()
    expect(client.others).toEqual([])
  })

  test('only those that say they are, of an earlier assignment, are taken', async () => {
    const stage = await moved(60_000)
    const { source, target, client, before, migrations, session } = stage
    source.send(output(before, 4, 'not marked'))
    source.send(output({ ...before, term: 7 }, 0, 'of another term', RecordFlag.late))
    target.send(output(before, 0, 'of another node', RecordFlag.late))
    await source.settled()
    await target.settled()
    expect(dropped(stage)).toBe(3)
    await migrations.start(session, 'a')
    source.send(output(before, 0, 'of the last but one', RecordFlag.late))
    await source.settled()
    expect(dropped(stage)).toBe(3)
    client.send(2)
    await client.answers()
    expect(client.others).toEqual(['of the last but one'])
    expect(client.verify()).toEqual([])
  })

  test('with the SDK: what a timer of the old node sends after the hand-over still arrives', async () => {
    const gateway = await startTestGateway({ rebalance })
    const opened: Session[] = []
    await startTestNode(gateway, { open: (session) => void opened.push(session) }, { id: 'a' })
    const client = await NumberedClient.connect(gateway.wsUrl)
    await startTestNode(gateway, { open: (session) => void session.send('from b') }, { id: 'b' })
    await expect.poll(() => opened.length).toBe(1)
    const session = gateway.operator.sessions().sessions[0]!.id
    expect((await new Migrations(gateway).start(session, 'b')).outcome).toBe('moved')
    await client.until(() => client.others.includes('from b'), 'the first output of b')
    const [old] = opened as [Session]
    expect(old.open).toBe(false)
    expect(old.send('late')).toBe(true)
    await client.until(() => client.others.includes('late'), 'the late output')
    expect(gateway.operator.counters.staleFramesDropped).toBe(0)

    // For a client that does not read, the gateway keeps no more of it than of anything else.
    client.ws.pause()
    const chunk = Buffer.alloc(64 * 1024)
    const sent = Array.from({ length: 100 }, () => old.send(chunk))
    expect(sent.indexOf(false) * chunk.length).toBeLessThanOrEqual(gateway.operator.limits.clientBufferBytes)
    expect(sent.at(-1)).toBe(false)
  })
})

test('messages that reached the source and that it had not begun go on without a mark', async () => {
  const gateway = await startTestGateway({ rebalance })
  const a = await startLinkedNode(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  const other = await NumberedClient.connect(gateway.wsUrl)
  const b = await ScriptedNode.link(gateway, { id: 'b' })
  const { id } = gateway.operator.sessions().sessions[0]!
  await a.block('message')
  client.send(3)
  await a.step('message', ({ session }) => session === id)
  const ended = new Migrations(gateway).start(id, 'b')
  await b.next('prepare')
  await b.settled()
  // It follows the three messages and QUIESCE on the link.
  other.send()
  await a.step('message', ({ session }) => session !== id)
  await a.release('message')
  expect((await ended).outcome).toBe('moved')
  await client.answers()
  expect(client.verify()).toEqual([])
  expect(client.replies.map(({ node }) => node)).toEqual(['a', 'b', 'b'])
  expect(gateway.operator.counters.messagesRedelivered).toBe(0)
})

test('50 migrations in a row, with a client that never falls silent', async () => {
  const gateway = await startTestGateway({ rebalance })
  const nodes = ['a', 'b', 'c']
  await startLinkedNode(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  await Promise.all([startLinkedNode(gateway, 'b'), startLinkedNode(gateway, 'c', { delivery: 'atomic' })])
  client.stream(8)
  const random = createRandom(seed)
  const migrations = new Migrations(gateway)
  const { id } = gateway.operator.sessions().sessions[0]!
  for (let i = 0; i < 50; i++) {
    const { node } = gateway.operator.session(id)
    await migrations.start(id, random.pick(nodes.filter((one) => one !== node)))
    await client.answers(random.int(0, 3))
  }
  await client.finish()
  expect(client.verify({ repeats: false })).toEqual([])
  expect(migrations.outcomes).toEqual(Array.from({ length: 50 }, () => 'moved'))
  expect(gateway.operator.session(id)).toMatchObject({ term: 51, migrations: 50, uncommitted: 0 })
  expect(gateway.operator.counters).toMatchObject({
    messagesLost: 0,
    messagesDuplicated: 0,
    messagesRedelivered: 0,
    staleFramesDropped: 0,
  })
})

test('from a to b and back: a opens it anew, with the state of b', async () => {
  const gateway = await startTestGateway({ rebalance })
  const a = await startLinkedNode(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  const b = await startLinkedNode(gateway, 'b')
  const migrations = new Migrations(gateway)
  const { id } = gateway.operator.sessions().sessions[0]!
  for (const to of ['b', 'a', 'b', 'a']) {
    client.send(2)
    await client.answers()
    await migrations.start(id, to)
  }
  client.send(2)
  await client.answers()
  expect(client.verify()).toEqual([])
  expect(client.replies.map(({ node }) => node).join('')).toBe('aabbaabbaa')
  expect(client.replies.at(-1)).toMatchObject({ term: 5, count: 10 })
  const hooks = (node: typeof a) => node.steps.filter(({ n }) => n === undefined).map(({ point }) => point)
  expect([hooks(a), hooks(b)]).toEqual([
    ['open', 'close', 'open', 'close', 'open'],
    ['open', 'close', 'open', 'close'],
  ])
})

describe('REFUSED to OPEN', () => {
  const refuse = (code: string) => (record: { session: number; term: number }, node: ScriptedNode) =>
    node.send(encodeRecord('refused', { ...record, body: json({ code, message: '' }) }))

  test('another node gets the session, with what the client has sent meanwhile', async () => {
    const gateway = await startTestGateway({ rebalance })
    const full = await ScriptedNode.link(gateway, { id: 'full', script: { open() {}, message() {} } })
    const client = await NumberedClient.connect(gateway.wsUrl)
    const open = await full.next('open')
    await startLinkedNode(gateway, 'roomy')
    client.send(3)
    await full.next('message', ({ body }) => body.readUInt32LE(0) === 3)
    refuse('FULL')(open, full)
    await client.answers()
    // The node has handled nothing of it, so nothing is marked.
    expect(client.verify()).toEqual([])
    expect(client.replies[0]).toMatchObject({ node: 'roomy', term: 2 })
    // It is asked no more until it reports again.
    const second = await NumberedClient.connect(gateway.wsUrl)
    second.send()
    await second.answers()
    expect(second.replies[0]!.node).toBe('roomy')
    expect(full.kinds().filter((kind) => kind === 'OPEN')).toHaveLength(1)
  })

  test('by all nodes: the client is held until one of them reports', async () => {
    const gateway = await startTestGateway({ rebalance })
    const node = await ScriptedNode.link(gateway, { script: { open: refuse('DRAINING') } })
    const client = await NumberedClient.connect(gateway.wsUrl)
    client.send(2)
    await expect.poll(() => gateway.operator.sessions().sessions[0]?.state).toBe('waiting')
    node.script = {}
    node.send(
      encodeRecord('report', {
        body: json({ gateways: {}, eventLoopLagMs: 0, weight: 1, drain: null, steered: 0 }),
      }),
    )
    await client.answers()
    expect(client.verify()).toEqual([])
  })

  test('by an SDK node that is full', async () => {
    const gateway = await startTestGateway({ rebalance })
    const got: string[] = []
    const handlers = (id: string) => ({ open: () => void got.push(id) })
    await startTestNode(gateway, handlers('small'), { id: 'small', maxSessions: 1, weight: 100 })
    await NumberedClient.connect(gateway.wsUrl)
    await expect.poll(() => got).toEqual(['small'])
    await startTestNode(gateway, handlers('large'), { id: 'large' })
    await Promise.all([1, 2, 3].map(() => NumberedClient.connect(gateway.wsUrl)))
    await expect.poll(() => got.toSorted()).toEqual(['large', 'large', 'large', 'small'])
  })
})
