import { expect, test } from 'vitest'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { encodeRecord, json, type RecordKind, u32s, type WireRecord } from '../support/link-wire.ts'
import { TestReader } from '../support/run-reader.ts'
import { ScriptedNode } from '../support/scripted-node.ts'

const offer = { name: 'story', concurrency: 8, onLoss: 'restart' }

function link(gateway: TestGateway, id = 'bad', runs: unknown = [offer]): Promise<ScriptedNode> {
  return ScriptedNode.link(gateway, { id, hello: { sessions: false, runs } })
}

async function startRun(gateway: TestGateway): Promise<string> {
  const { run } = await gateway.runs.start({
    pool: 'default',
    name: 'story',
    requestJson: '{"x":1}',
    idempotencyKey: null,
    mode: 'durable',
  })
  return run
}

const of = ({ session, term }: WireRecord, kind: RecordKind, fields: Partial<WireRecord> = {}) =>
  encodeRecord(kind, { session, term, ...fields })
const append = (order: WireRecord, first: number, ...events: unknown[]) =>
  of(order, 'append', { body: u32s([first], JSON.stringify(events)) })
const end = (order: WireRecord, seq: number, event: unknown) =>
  of(order, 'end', { body: u32s([seq], JSON.stringify(event)) })

test('RUN, APPEND, LOGGED and END, as PROTOCOL.md has them', async () => {
  const gateway = await startTestGateway()
  const node = await link(gateway)
  const run = await startRun(gateway)
  const order = await node.next('run')
  const orderBytes = order.body.readUInt32LE(0)
  expect(JSON.parse(order.body.toString('utf8', 4, 4 + orderBytes))).toEqual({ run, name: 'story' })
  expect(order.body.toString('utf8', 4 + orderBytes)).toBe('{"x":1}')
  expect(order.term).toBe(1)
  const reader = await TestReader.open(gateway.runs, run)
  node.send(append(order, 1, 'a', { kind: 'thinking', data: 'b' }))
  expect((await node.next('logged')).body.readUInt32LE(0)).toBe(2)
  node.send(append(order, 3, 'c'), end(order, 4, { type: 'end', usage: 5 }))
  expect(await reader.ended()).toEqual({ type: 'end', reason: 'complete', usage: 5 })
  expect(reader.text).toBe('abc')
  expect((await node.next('logged')).body.readUInt32LE(0)).toBe(4)
  // For a run that is over, whatever is said is passed over.
  node.send(append(order, 5, 'x'), append({ ...order, session: 77 }, 1, 'x'))
  await node.settled()
})

const ofOrder: [string, (order: WireRecord) => Buffer][] = [
  ['no JSON', (order) => of(order, 'append', { body: u32s([1], '[nothing') })],
  ['no list', (order) => of(order, 'append', { body: u32s([1], '{"a":1}') })],
  ['no event', (order) => append(order, 1, 7)],
  [
    'a fence of its own',
    (order) => append(order, 1, { type: 'fence', epoch: 1, resume: 'restart', base: '0-0' }),
  ],
  ['an end within', (order) => append(order, 1, 'a', { type: 'end', reason: 'complete' })],
  ['a hole', (order) => append(order, 2, 'a')],
  ['something twice', (order) => Buffer.concat([append(order, 1, 'a'), append(order, 1, 'a')])],
  ['too much', (order) => append(order, 1, 'x'.repeat(50_000))],
  ['a bad end', (order) => end(order, 1, { type: 'gap' })],
  [
    'something behind its end',
    (order) => Buffer.concat([end(order, 1, { type: 'end' }), append(order, 2, 'a')]),
  ],
  [
    'to attach with a number of the gateway',
    ({ term }) => encodeRecord('attach', { session: 5, term, body: json({ run: 'r', name: 'story' }) }),
  ],
  [
    'to attach without a name',
    ({ term }) => encodeRecord('attach', { session: 2 ** 31, term, body: json({ run: 'r' }) }),
  ],
]

test('what is out of order costs a producer its link, and the run is made elsewhere', async () => {
  const gateway = await startTestGateway()
  for (const [i, [what, make]] of ofOrder.entries()) {
    const bad = await link(gateway, `bad${i}`)
    const run = await startRun(gateway)
    const order = await bad.next('run')
    bad.send(make(order))
    expect((await bad.ended).code, what).toBe(4400)
    const { status } = await gateway.runs.status(run)
    // Its producer has ended it before.
    if (status === 'ended') continue
    const good = await link(gateway, `good${i}`)
    const again = await good.next('run')
    expect(again.term, what).toBe(2)
    good.send(append(again, 1, 'whole'), end(again, 2, { type: 'end' }))
    const reader = await TestReader.open(gateway.runs, run)
    await reader.ended()
    expect(reader.text, what).toBe('whole')
    good.leave()
    await good.ended
  }
})

const offers: [string, unknown][] = [
  ['no list', {}],
  ['a bad name', [{ ...offer, name: 'a b' }]],
  ['no place', [{ ...offer, concurrency: 0 }]],
  ['an unknown policy', [{ ...offer, onLoss: 'never' }]],
  ['a name twice', [offer, offer]],
  ['too many', Array.from({ length: 65 }, (_, i) => ({ ...offer, name: `n${i}` }))],
]

test('HELLO with runs that are none is refused', async () => {
  const gateway = await startTestGateway()
  for (const [what, runs] of offers)
    await expect(link(gateway, 'bad', runs), what).rejects.toThrow('ended before welcome')
})

test('a run that a node declines is given to another, and comes back to it when it reports', async () => {
  const gateway = await startTestGateway()
  const node = await link(gateway)
  await startRun(gateway)
  const order = await node.next('run')
  node.send(of(order, 'decline'))
  await node.settled()
  const good = await link(gateway, 'good')
  const given = await good.next('run')
  expect(given.term).toBeGreaterThan(order.term)
  // Nothing for the one that declined, until it has room again.
  for (let i = 0; i < 3; i++) await startRun(gateway)
  for (let i = 0; i < 3; i++) await good.next('run')
  const report = { gateways: {}, eventLoopLagMs: 0, weight: 1, drain: null, steered: 0 }
  node.send(encodeRecord('report', { body: json(report) }))
  await node.settled()
  await startRun(gateway)
  await node.next('run')
})

test('to attach: a stranger’s attempt is refused, and one that was fenced off', async () => {
  const gateway = await startTestGateway()
  const node = await link(gateway)
  const run = await startRun(gateway)
  const order = await node.next('run')
  const attach = (name: string, id: string, epoch: number, number: number) =>
    node.send(
      encodeRecord('attach', { session: 2 ** 31 + number, term: epoch, body: json({ run: id, name }) }),
    )
  attach('story', 'nobody', 1, 1)
  attach('other', run, 1, 2)
  attach('story', run, 7, 3)
  // Its own, which is linked.
  attach('story', run, order.term, 4)
  for (let i = 0; i < 4; i++) await node.next('stop')
  node.send(append(order, 1, 'a'))
  expect((await node.next('logged')).session).toBe(order.session)
})
