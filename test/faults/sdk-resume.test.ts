import type { EvenkeelNode, SessionHandlers } from 'evenkeel/sdk'
import { expect, test } from 'vitest'
import { startTestNode } from '../support/in-process.ts'
import { json, u32s } from '../support/link-wire.ts'
import { ScriptedGateway } from '../support/scripted-gateway.ts'
import { until } from '../support/until.ts'

/** PROTOCOL.md §1.10 at a whole node: links that come and go, its timer, and its end. */

const [t1, t2] = ['1', '2'].map((digit) => digit.repeat(43)) as [string, string]

/** A node that is linked to these gateways, and what its application is told. */
async function startNode(...gateways: ScriptedGateway[]) {
  const told: string[] = []
  const looks = new Set<() => void>()
  const hear = (what: string) => {
    told.push(what)
    for (const look of [...looks]) look()
  }
  const handlers: SessionHandlers = {
    open: ({ id }) => hear(`open ${id}`),
    message(session, data) {
      hear(`${data}`)
      session.send(`to ${data}`)
    },
    close: ({ id }, { cause, code, reason }) => hear(`close ${id} ${cause} ${code} ${reason}`),
  }
  const [first] = gateways
  const node = await startTestNode({ linkUrl: first!.url }, handlers, {
    gateways: gateways.map(({ url }) => url),
  })
  await Promise.all(gateways.map((gateway) => gateway.next('report')))
  const toldOf = (what: string) => until(() => told.includes(what), looks, { what })
  return { node, told, toldOf }
}

/** Looks for session s, gets it, and says how it was called before. */
async function take(gateway: ScriptedGateway, term: number): Promise<unknown> {
  gateway.send('seek', { body: json({ seek: 1, session: 's', token: t1, next: t2 }) })
  const found = JSON.parse(String((await gateway.next('found')).body))
  gateway.send('take', { session: 70, term, body: u32s([1_000, 0], 's') })
  await gateway.next('taken')
  return found
}

async function lost({ node }: { node: EvenkeelNode }, gateway: ScriptedGateway): Promise<void> {
  const gone = new Promise((resolve) => node.once('disconnected', resolve))
  await gateway.die()
  await gone
}

/** The sessions by gateway in its next report. */
async function reported(gateway: ScriptedGateway, fits: (sessions: Record<string, number>) => boolean) {
  await gateway.next('report', ({ body }) => fits(JSON.parse(String(body)).gateways))
}

test('a gateway dies, and another one takes what it had', async () => {
  const [g1, g2] = [await ScriptedGateway.start(), await ScriptedGateway.start({ id: 'g2' })]
  const run = await startNode(g1, g2)
  g1.open({ number: 7, id: 's', token: t1 })
  g1.send('message', { session: 7, term: 1, flags: 1, body: u32s([1], 'm1') })
  await g1.next('commit')
  await lost(run, g1)
  expect(run.node.sessionCount).toBe(1)
  await reported(g2, (sessions) => !('g1' in sessions) && sessions.g2 === 0)
  expect(await take(g2, 2)).toEqual({ seek: 1, term: 1, live: true })
  expect(String((await g2.next('output')).body.subarray(4))).toBe('to m1')
  await reported(g2, (sessions) => sessions.g2 === 1)
  expect([run.node.sessionCount, run.told]).toEqual([1, ['open s', 'm1']])
})

test('the link to the same gateway process comes back: what the former one had ends', async () => {
  const g1 = await ScriptedGateway.start()
  const { told, toldOf } = await startNode(g1)
  g1.open({ number: 7, id: 's', token: t1 })
  await g1.next('kept')
  g1.cut()
  await toldOf('close s link-lost 1006 link lost')
  expect(told).toHaveLength(2)
})

test('another process in its place has not had them: they wait for their clients', async () => {
  const g1 = await ScriptedGateway.start()
  const { node, told } = await startNode(g1)
  g1.open({ number: 7, id: 's', token: t1 })
  await g1.next('kept')
  const { port } = g1
  await g1.die()
  const successor = await ScriptedGateway.start({ id: 'g1', instance: 'another-process', port })
  await successor.next('report')
  expect(await take(successor, 2)).toEqual({ seek: 1, term: 1, live: true })
  expect([node.sessionCount, told]).toEqual([1, ['open s']])
})

test('a second link to the same process replaces the first, whose sessions end with it', async () => {
  const instance = 'one-process'
  const [one, two] = [await ScriptedGateway.start({ instance }), await ScriptedGateway.start({ instance })]
  const run = await startNode(one, two)
  one.open({ number: 7, id: 's', token: t1 })
  await one.next('kept')
  await lost(run, one)
  expect([run.node.sessionCount, run.told]).toEqual([0, ['open s', 'close s link-lost 1006 link lost']])
})

test('nobody comes: it ends after the time that the gateway has named', async () => {
  const g1 = await ScriptedGateway.start({ resumeMs: 100 })
  const run = await startNode(g1)
  g1.open({ number: 7, id: 's', token: t1 })
  await g1.next('kept')
  await lost(run, g1)
  expect(run.told).toEqual(['open s'])
  await run.toldOf('close s client 1006 the client did not come back')
  expect(run.node.sessionCount).toBe(0)
})

test('stop ends what waits for its client, with its links', async () => {
  const [g1, g2] = [await ScriptedGateway.start(), await ScriptedGateway.start({ id: 'g2' })]
  const run = await startNode(g1, g2)
  g1.open({ number: 7, id: 's', token: t1 })
  g2.open({ number: 8, id: 'r', token: t1 })
  g2.open({ number: 9, id: 'q', token: t1 })
  await Promise.all([g1.next('kept'), g2.next('kept', ({ session }) => session === 9)])
  await lost(run, g1)
  g2.send('quiesce', { session: 9, term: 1, body: u32s([2]) })
  await g2.next('fin')
  await run.node.stop()
  // What has handed over does not begin again only to end.
  expect(run.told.slice(3).toSorted()).toEqual([
    'close q migrated 1012 migrated',
    'close r link-lost 1006 link lost',
    'close s link-lost 1006 link lost',
  ])
  expect(run.node.sessionCount).toBe(0)
})

test('a drain waits for them, and for the gateway that has taken them', async () => {
  const [g1, g2] = [await ScriptedGateway.start(), await ScriptedGateway.start({ id: 'g2' })]
  const run = await startNode(g1, g2)
  g1.open({ number: 7, id: 's', token: t1 })
  await g1.next('kept')
  await lost(run, g1)
  let drained = false
  const draining = run.node.drain().then(() => (drained = true))
  g2.send('drained')
  await g2.settled()
  expect(drained).toBe(false)
  // A node that leaves refuses new sessions, but it is the only one that has this one.
  await take(g2, 2)
  await g2.settled()
  expect(drained).toBe(false)
  g2.send('quiesce', { session: 70, term: 2, body: u32s([3]) })
  await g2.next('fin')
  g2.send('release', { session: 70, term: 2 })
  g2.send('drained')
  await draining
  expect(run.told).toEqual(['open s', 'close s migrated 1012 migrated'])
})

test('a drain waits no longer than their clients may come back', async () => {
  const g1 = await ScriptedGateway.start({ resumeMs: 100 })
  const run = await startNode(g1)
  g1.open({ number: 7, id: 's', token: t1 })
  await g1.next('kept')
  const { port } = g1
  await lost(run, g1)
  const successor = await ScriptedGateway.start({ instance: 'another-process', port })
  await successor.next('report')
  const draining = run.node.drain()
  successor.send('drained')
  await successor.settled()
  expect(run.told).toEqual(['open s'])
  await draining
  expect(run.told).toEqual(['open s', 'close s client 1006 the client did not come back'])
})
