import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startNodeProcess } from '../support/faulty-node.ts'
import { startGatewayChild } from '../support/gateway-child.ts'
import { NumberedClient } from '../support/numbered-client.ts'

const downMs = 800
const limits = { heartbeatMs: 200, suspectMs: 400, downMs }
const config = { rebalance: { enabled: false }, limits, log: { level: 'info' } }

test('a node that is stopped: suspect, down, its sessions move, and what it says later counts for nothing', async () => {
  const gateway = await startGatewayChild(config)
  const { events, admin } = gateway
  const a = await startNodeProcess(gateway, 'a')
  const clients = await Promise.all([1, 2, 3].map(() => NumberedClient.connect(gateway.wsUrl)))
  const b = await startNodeProcess(gateway, 'b')
  for (const client of clients) {
    client.stream(4)
    await client.answers(5)
  }
  a.freeze()

  const suspect = await events.find('node-suspect', ({ node }) => node === 'a')
  const down = await events.find('node-down', ({ node }) => node === 'a')
  expect(events.all.indexOf(suspect)).toBeLessThan(events.all.indexOf(down))
  expect(down).toMatchObject({ reason: `silent for ${downMs} ms`, sessions: 3 })
  for (const client of clients) {
    await client.until(() => client.replies.at(-1)?.node === 'b', 'an answer from b')
    await client.answers(10)
  }
  expect(await admin.sessions()).toMatchObject(clients.map(() => ({ node: 'b', term: 2 })))
  expect(await admin.node('a')).toMatchObject({ state: 'down', sessions: 0 })

  // It finds the messages that it was sent before it was stopped, and answers them.
  a.thaw()
  await events.find('node-up', ({ node, at }) => node === 'a' && at > down.at)
  for (const client of clients) await client.answers(10)
  expect(await gateway.metric('evenkeel_stale_frames_dropped_total')).toBeGreaterThan(0)
  expect(await admin.node('a')).toMatchObject({ state: 'active', health: 'healthy', sessions: 0 })
  for (const client of clients) {
    await client.finish()
    expect(client.verify().length).toBeGreaterThan(0)
  }
  expect(await gateway.metric('evenkeel_messages_lost_total')).toBe(0)

  // And its table is clean: it takes sessions as any other.
  const { id } = (await admin.sessions())[0]!
  await admin.migrate(id, 'a')
  await expect.poll(async () => (await admin.session(id)).node).toBe('a')
  const moved = clients.map(async (client) => {
    client.send(2)
    await client.answers()
    client.verify()
    return client.replies.at(-1)!.node
  })
  expect((await Promise.all(moved)).toSorted()).toEqual(['a', 'b', 'b'])
  expect(b.running).toBe(true)
})

test('a node that is stopped for less than downMs loses nothing, not even its sessions', async () => {
  const gateway = await startGatewayChild({ ...config, limits: { ...limits, downMs: 20_000 } })
  const { events } = gateway
  const a = await startNodeProcess(gateway, 'a')
  const client = await NumberedClient.connect(gateway.wsUrl)
  await startNodeProcess(gateway, 'b')
  client.stream(4)
  await client.answers(5)
  a.freeze()
  await events.find('node-suspect', ({ node }) => node === 'a')
  // A node that is suspect gets no new session.
  const other = await NumberedClient.connect(gateway.wsUrl)
  const third = await NumberedClient.connect(gateway.wsUrl)
  for (const one of [other, third]) {
    one.send()
    await one.answers()
    expect(one.replies[0]!.node).toBe('b')
  }
  a.thaw()
  await events.find('node-healthy', ({ node }) => node === 'a')
  await client.answers(5)
  await client.finish()
  expect(client.verify()).toEqual([])
  expect(client.replies.at(-1)).toMatchObject({ node: 'a', term: 1 })
  expect(events.of('node-down')).toEqual([])
})

test('a gateway that is stopped declares nobody dead, and loses nothing', async () => {
  const gateway = await startGatewayChild(config)
  const { events, admin } = gateway
  await startNodeProcess(gateway, 'a')
  await startNodeProcess(gateway, 'b')
  const clients = await Promise.all([1, 2, 3, 4].map(() => NumberedClient.connect(gateway.wsUrl)))
  for (const client of clients) {
    client.stream(4)
    await client.answers(5)
  }
  gateway.signal('SIGSTOP')
  // Both ends of each link are silent for longer than downMs, as the gateway will find.
  await sleep(downMs * 2)
  gateway.signal('SIGCONT')
  for (const client of clients) {
    await client.answers(20)
    await client.finish()
    expect(client.verify()).toEqual([])
    expect(client.replies.at(-1)!.term).toBe(1)
  }
  await sleep(downMs)
  expect(await admin.nodes()).toMatchObject([{ health: 'healthy' }, { health: 'healthy' }])
  expect(events.of('node-down')).toEqual([])
  expect(await gateway.metric('evenkeel_messages_redelivered_total')).toBe(0)
})
