import { expect, test } from 'vitest'
import { type FaultyNode, startLinkedNode } from '../support/faulty-node.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { encodeRecord } from '../support/link-wire.ts'
import { Migrations } from '../support/migrations.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { ScriptedNode } from '../support/scripted-node.ts'

interface Stage {
  gateway: TestGateway
  a: FaultyNode
  b: FaultyNode
  client: NumberedClient
  /** It has another session at a, and has said nothing yet. */
  other: NumberedClient
  session: string
  migrations: Migrations
}

/** A session at SDK node a that has answered three messages, and an idle node b. */
async function setStage(quiesceMs: number): Promise<Stage> {
  const gateway = await startTestGateway({ rebalance: { enabled: false }, limits: { quiesceMs } })
  const a = await startLinkedNode(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  client.send(3)
  await client.answers()
  const other = await NumberedClient.connect(gateway.wsUrl)
  const b = await startLinkedNode(gateway, 'b')
  const session = gateway.operator.sessions().sessions[0]!.id
  return { gateway, a, b, client, other, session, migrations: new Migrations(gateway) }
}

/** What the application at the node has seen of the session, messages apart. */
function hooks(node: FaultyNode, { session: wanted }: Stage): string[] {
  return node.steps
    .filter(({ point, session }) => session === wanted && (point === 'open' || point === 'close'))
    .map(({ point, recovered, cause }) =>
      point === 'open' ? `open${recovered ? ' recovered' : ''}` : `close ${cause}`,
    )
}

/** Each message was begun by exactly one node, once. */
function expectEachBegunOnce({ a, b, client, session: wanted }: Stage): void {
  const begun = [...a.steps, ...b.steps]
    .filter(({ point, session }) => session === wanted && point === 'message')
    .map(({ n }) => n!)
  expect(begun.toSorted((x, y) => x - y)).toEqual(Array.from({ length: client.sent }, (_, i) => i + 1))
}

async function expectGoesOnAt(stage: Stage, node: string, term: number): Promise<void> {
  stage.client.send(3)
  await stage.client.answers()
  expect(stage.client.verify()).toEqual([])
  expect(stage.client.replies.at(-1)).toMatchObject({ node, term })
  expectEachBegunOnce(stage)
}

test('a handler that takes too long: it finishes, and its session has noticed nothing', async () => {
  const stage = await setStage(60)
  const { a, client, other, session, migrations } = stage
  await a.block('message')
  client.send(2)
  await a.step('message', ({ n }) => n === 4)
  expect((await migrations.start(session, 'b')).outcome).toBe('quiesce-timeout')
  // The message of another session follows RESUME on the link.
  other.send()
  await a.step('message', (step) => step.session !== session)
  await a.release('message')
  await expectGoesOnAt(stage, 'a', 1)
  expect(hooks(a, stage)).toEqual(['open'])
})

test('a close hook that takes too long: the session opens again, and can move later', async () => {
  const stage = await setStage(60)
  const { a, b, client, session, migrations } = stage
  await a.block('close')
  const ended = migrations.start(session, 'b')
  await a.step('close')
  client.send(2)
  expect((await ended).outcome).toBe('quiesce-timeout')
  await a.release('close')
  await expectGoesOnAt(stage, 'a', 1)
  expect(hooks(a, stage)).toEqual(['open', 'close migrated', 'open recovered'])
  expect((await migrations.start(session, 'b')).outcome).toBe('moved')
  await expectGoesOnAt(stage, 'b', 3)
  expect(hooks(a, stage).slice(3)).toEqual(['close migrated'])
  expect(hooks(b, stage)).toEqual(['open recovered'])
})

test('called off while the close hook runs, and asked again before it ends: the second time counts', async () => {
  const gateway = await startTestGateway({ rebalance: { enabled: false }, limits: { quiesceMs: 300 } })
  const migrations = new Migrations(gateway)
  const a = await startLinkedNode(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  const other = await NumberedClient.connect(gateway.wsUrl)
  client.send(3)
  await client.answers()
  const b = await ScriptedNode.link(gateway, { id: 'b' })
  const session = gateway.operator.sessions().sessions[0]!.id
  await a.block('close')
  const first = migrations.start(session, 'b')
  await a.step('close')
  client.send(2)
  expect((await first).outcome).toBe('quiesce-timeout')
  const second = migrations.start(session, 'b')
  await b.next('prepare', ({ term }) => term === 3)
  await b.settled()
  // Its answer follows the second QUIESCE on the link.
  other.send()
  await other.answers()
  await a.release('close')
  expect((await second).outcome).toBe('moved')
  client.send(2)
  await client.answers()
  expect(client.verify()).toEqual([])
  expect(client.replies.at(-1)).toMatchObject({ node: 'b', term: 3 })
})

test('a FIN that is late: the session opens again and goes on', async () => {
  const stage = await setStage(60)
  const { a, b, client, session, migrations } = stage
  await a.block('close')
  const ended = migrations.start(session, 'b')
  await a.step('close')
  a.freeze()
  await a.release('close')
  client.send(2)
  expect((await ended).outcome).toBe('quiesce-timeout')
  a.thaw()
  await a.step('open', ({ recovered }) => recovered === true)
  await expectGoesOnAt(stage, 'a', 1)
  expect(hooks(a, stage)).toEqual(['open', 'close migrated', 'open recovered'])
  expect(hooks(b, stage)).toEqual([])
})

test('a FIN that crosses with RESUME and the next QUIESCE does not end the next attempt', async () => {
  const stage = await setStage(150)
  const { a, client, session, migrations } = stage
  client.stream(4)
  await client.answers(5)
  await a.block('close')
  const first = migrations.start(session, 'b')
  await a.step('close')
  a.freeze()
  await a.release('close')
  expect((await first).outcome).toBe('quiesce-timeout')
  const second = migrations.start(session, 'b')
  a.thaw()
  expect((await second).outcome).toBe('moved')
  await client.answers(10)
  await client.finish()
  await expectGoesOnAt(stage, 'b', 3)
  expect(hooks(a, stage)).toEqual(['open', 'close migrated', 'open recovered', 'close migrated'])
})

test('the same record by record', async () => {
  const gateway = await startTestGateway({ rebalance: { enabled: false }, limits: { quiesceMs: 300 } })
  const source = await ScriptedNode.link(gateway, { id: 'a' })
  const client = await NumberedClient.connect(gateway.wsUrl)
  client.send(3)
  await client.answers()
  const target = await ScriptedNode.link(gateway, { id: 'b' })
  const migrations = new Migrations(gateway)
  const session = gateway.operator.sessions().sessions[0]!.id
  source.script = { quiesce() {}, message() {} }

  const first = migrations.start(session, 'b')
  const quiesce = await source.next('quiesce')
  client.send(2)
  expect((await first).outcome).toBe('quiesce-timeout')
  const second = migrations.start(session, 'b')
  const again = await source.next('quiesce')
  expect([quiesce.body.readUInt32LE(0), again.body.readUInt32LE(0)]).toEqual([2, 3])
  const { session: number, term } = quiesce
  source.send(encodeRecord('fin', { session: number, term, body: quiesce.body }))
  await source.settled()
  await target.settled()
  expect(target.kinds()).not.toContain('ACTIVATE')
  // Both messages came between RESUME and the second QUIESCE; the source has handled them now.
  for (const message of source.received.filter(({ type }) => type === 0x20).slice(-2)) source.behave(message)
  source.send(encodeRecord('fin', { session: number, term, body: again.body }))
  expect((await second).outcome).toBe('moved')
  client.send(2)
  await client.answers()
  expect(client.verify()).toEqual([])
  expect(client.replies.slice(3).map((reply) => `${reply.node} ${reply.term}`)).toEqual([
    'a 1',
    'a 1',
    'b 3',
    'b 3',
  ])
})
