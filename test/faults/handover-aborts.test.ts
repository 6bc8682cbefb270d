import { describe, expect, test } from 'vitest'
import type { Limits } from '../../src/protocol/limits.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { encodeRecord, json, type WireRecord } from '../support/link-wire.ts'
import { Migrations } from '../support/migrations.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { type Script, ScriptedNode } from '../support/scripted-node.ts'

const never = () => {}

interface Stage {
  gateway: TestGateway
  source: ScriptedNode
  target: ScriptedNode
  client: NumberedClient
  session: string
  migrations: Migrations
}

/** A session at a scripted node, three messages old, and a second scripted node. */
async function setStage(
  limits: Partial<Limits>,
  scripts: { source?: Script; target?: Script },
): Promise<Stage> {
  const gateway = await startTestGateway({ rebalance: { enabled: false }, limits })
  const source = await ScriptedNode.link(gateway, { id: 'a', script: scripts.source ?? {} })
  const client = await NumberedClient.connect(gateway.wsUrl)
  client.send(3)
  await client.answers()
  const target = await ScriptedNode.link(gateway, { id: 'b', script: scripts.target ?? {} })
  const session = gateway.operator.sessions().sessions[0]!.id
  return { gateway, source, target, client, session, migrations: new Migrations(gateway) }
}

/** The session is where it was, as it was. */
async function expectStayed({ gateway, source, client, session }: Stage): Promise<void> {
  client.send(3)
  await client.answers()
  expect(client.verify()).toEqual([])
  expect(new Set(client.replies.map(({ node, term }) => `${node} ${term}`))).toEqual(new Set(['a 1']))
  expect(gateway.operator.session(session)).toMatchObject({
    node: 'a',
    term: 1,
    state: 'active',
    migrations: 0,
  })
  expect(source.received.filter(({ flags }) => (flags & 0x02) !== 0)).toEqual([])
}

const refuse = ({ session, term }: WireRecord, node: ScriptedNode) =>
  node.send(encodeRecord('refused', { session, term, body: json({ code: 'FULL', message: 'no room' }) }))

describe('while the target prepares', () => {
  test('REFUSED: nothing has happened at the source', async () => {
    const stage = await setStage({}, { target: { prepare: refuse } })
    expect(await stage.migrations.start(stage.session, 'b')).toMatchObject({
      outcome: 'refused',
      pauseMs: null,
    })
    await expectStayed(stage)
    expect(stage.source.kinds()).not.toContain('QUIESCE')
    expect(stage.target.kinds()).toEqual(['WELCOME', 'PREPARE'])
  })

  test('no READY in time: prepare-timeout, and a late READY means nothing', async () => {
    const stage = await setStage({ prepareMs: 60 }, { target: { prepare: never } })
    const { target, migrations, session } = stage
    expect(await migrations.start(session, 'b')).toMatchObject({ outcome: 'prepare-timeout', pauseMs: null })
    const { term, session: number } = await target.next('release')
    expect(term).toBe(2)
    target.send(encodeRecord('ready', { session: number, term }))
    await target.settled()
    await expectStayed(stage)
    expect(stage.source.kinds()).not.toContain('QUIESCE')
    expect(stage.gateway.operator.counters.staleFramesDropped).toBe(0)
    expect(target.kinds()).toEqual(['WELCOME', 'PREPARE', 'RELEASE'])
  })

  test('the client leaves: the target is released, the source hears of it', async () => {
    const { gateway, source, target, client, session, migrations } = await setStage(
      {},
      { target: { prepare: never } },
    )
    const ended = migrations.start(session, 'b')
    await target.next('prepare')
    client.ws.close(4100)
    expect((await ended).outcome).toBe('session-closed')
    await Promise.all([target.next('release'), source.next('close')])
    await source.settled()
    expect(gateway.operator.sessions().sessions).toEqual([])
    expect(source.kinds().slice(-2)).toEqual(['MESSAGE', 'CLOSE'])
  })

  test('the target is drained: the session is not brought there', async () => {
    const stage = await setStage({}, { target: { prepare: never } })
    const ended = stage.migrations.start(stage.session, 'b')
    await stage.target.next('prepare')
    stage.gateway.operator.drain('b')
    expect((await ended).outcome).toBe('cancelled')
    await stage.target.next('release')
    await stage.target.next('drained')
    await expectStayed(stage)
  })

  test('the source takes it back before it had it: another node gets it, once', async () => {
    const stage = await setStage({}, { target: { prepare: never, open: never } })
    const { gateway, source, target, migrations } = stage
    source.script = { open: never }
    target.script.open = refuse
    const second = await NumberedClient.connect(gateway.wsUrl)
    second.send(2)
    // It went to b, which refuses; now it waits at a, which will refuse as well while the session is moving to c.
    const open = await source.next('open', ({ session }) => session === 2)
    const c = await ScriptedNode.link(gateway, { id: 'c', script: { prepare: never } })
    const ended = migrations.start(gateway.operator.sessions().sessions[1]!.id, 'c')
    const prepare = await c.next('prepare')
    refuse(open, source)
    await source.settled()
    c.send(encodeRecord('ready', { session: prepare.session, term: prepare.term }))
    await c.settled()
    expect((await ended).outcome).toBe('cancelled')
    expect(c.kinds().slice(0, 4)).toEqual(['WELCOME', 'PREPARE', 'RELEASE', 'OPEN'])
    await second.answers()
    second.send(3)
    await second.answers()
    expect(second.verify()).toEqual([])
    expect(gateway.operator.sessions().sessions[1]).toMatchObject({
      node: 'c',
      state: 'active',
      uncommitted: 0,
    })
    expect(second.replies[0]!.term).toBeGreaterThan(prepare.term)
  })
})

describe('while the source finishes', () => {
  test('no FIN in time: quiesce-timeout, and what was kept back goes to the source', async () => {
    const stage = await setStage({ quiesceMs: 60 }, { source: { quiesce: never } })
    const { source, target, client, migrations, session } = stage
    const ended = migrations.start(session, 'b')
    const { body } = await source.next('quiesce')
    client.send(2)
    expect(await ended).toMatchObject({ outcome: 'quiesce-timeout', pauseMs: expect.any(Number) })
    expect((await source.next('resume')).body).toEqual(body)
    expect((await target.next('release')).term).toBe(2)
    await expectStayed(stage)
    expect(source.kinds().slice(-7, -5)).toEqual(['QUIESCE', 'RESUME'])
  })

  test('messages are kept back until then, and no longer', async () => {
    const stage = await setStage({}, { source: { quiesce: never } })
    const { source, target, client, migrations, session, gateway } = stage
    const ended = migrations.start(session, 'b')
    const { session: number, term, body } = await source.next('quiesce')
    client.send(4)
    await expect.poll(() => gateway.operator.session(session).uncommitted).toBe(4)
    await source.settled()
    expect(source.kinds().at(-1)).toBe('QUIESCE')
    source.send(encodeRecord('fin', { session: number, term, body }))
    expect(await ended).toMatchObject({ outcome: 'moved', held: 4 })
    await client.answers()
    expect(client.verify()).toEqual([])
    expect(target.kinds().slice(0, 5)).toEqual(['WELCOME', 'PREPARE', 'ACTIVATE', 'MESSAGE', 'MESSAGE'])
    expect(await source.next('release')).toMatchObject({ term: 1 })
  })

  test('the client leaves: RESUME, then CLOSE; a FIN that crosses means nothing', async () => {
    const { gateway, source, target, client, session, migrations } = await setStage(
      {},
      { source: { quiesce: never } },
    )
    const ended = migrations.start(session, 'b')
    const { session: number, term, body } = await source.next('quiesce')
    source.script.resume = () => source.send(encodeRecord('fin', { session: number, term, body }))
    client.send(1)
    client.ws.close(4100)
    expect((await ended).outcome).toBe('session-closed')
    await Promise.all([target.next('release'), source.next('close')])
    await source.settled()
    expect(source.kinds().slice(-4)).toEqual(['QUIESCE', 'RESUME', 'MESSAGE', 'CLOSE'])
    expect(gateway.operator.sessions().sessions).toEqual([])
    expect(target.kinds()).toEqual(['WELCOME', 'PREPARE', 'RELEASE'])
  })

  test('the target changes its mind: the source goes on', async () => {
    const stage = await setStage({}, { source: { quiesce: never } })
    const { source, target, migrations, session } = stage
    const ended = migrations.start(session, 'b')
    await source.next('quiesce')
    refuse(target.received.find(({ type }) => type === 0x11)!, target)
    expect((await ended).outcome).toBe('refused')
    await source.next('resume')
    await expectStayed(stage)
  })

  test('the source dies with messages in flight: those are marked, and no others', async () => {
    const { source, target, client, session, migrations } = await setStage({}, { source: { quiesce: never } })
    source.script.message = never
    client.send(2)
    await source.next('message', ({ body }) => body.readUInt32LE(0) === 5)
    const ended = migrations.start(session, 'b')
    await source.next('quiesce')
    client.send(2)
    await expect.poll(() => client.ws.bufferedAmount).toBe(0)
    source.crash()
    expect(await ended).toMatchObject({ outcome: 'source-lost' })
    await client.answers()
    expect(client.verify().map(({ n }) => n)).toEqual([4, 5])
    expect(target.kinds().slice(0, 3)).toEqual(['WELCOME', 'PREPARE', 'ACTIVATE'])
  })
})

test('a drain that comes to its deadline takes every session away once, wherever its move stands', async () => {
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  const a = await ScriptedNode.link(gateway, { id: 'a', script: { quiesce: never } })
  const clients = await Promise.all([1, 2, 3, 4].map(() => NumberedClient.connect(gateway.wsUrl)))
  for (const client of clients) client.send(2)
  for (const client of clients) await client.answers()
  a.script.message = never
  const b = await ScriptedNode.link(gateway, { id: 'b' })
  clients[0]!.send()
  await a.next('message', ({ body }) => body.readUInt32LE(0) === 3)
  gateway.operator.drain('a', { deadlineMs: 50 })
  await a.next('drained')
  for (const client of clients) client.send(2)
  for (const client of clients) await client.answers()
  expect(clients.map((client) => client.verify().map(({ n }) => n))).toEqual([[3], [], [], []])
  // Term 2 was that of the move which the deadline ended.
  expect(gateway.operator.sessions().sessions).toMatchObject(clients.map(() => ({ node: 'b', term: 3 })))
  expect(b.kinds().filter((kind) => kind === 'OPEN')).toHaveLength(4)
  expect(a.kinds().filter((kind) => kind === 'DRAINED')).toHaveLength(1)
})
