import { describe, expect, onTestFinished, test } from 'vitest'
import { CanaryApi, connectClients, expectUnharmed, startVersions } from '../support/canary.ts'
import { echo, launchTestGateway, startTestGateway, startTestNode } from '../support/in-process.ts'
import { LinkProxy } from '../support/link-proxy.ts'
import { RedisServer } from '../support/redis.ts'

const rebalance = { enabled: true, intervalMs: 200 }
const pool = 'default'

test('a share of the live sessions goes to the new version, stays there, grows, and comes back', async () => {
  const gateway = await startTestGateway({ rebalance })
  await startVersions(gateway)
  const api = new CanaryApi(gateway)
  const clients = await connectClients(gateway.wsUrl, 80)
  const at = () => gateway.operator.node('new').sessions
  expect(at()).toBe(0)

  const started = await api.start({ pool, version: '2', percent: 20, watchMs: 1_000 })
  expect(started).toMatchObject({
    kind: 'canary',
    subject: 'default 2',
    canary: { state: 'watching', percent: 20 },
  })
  const moved = await api.ended(started)
  expect(moved).toMatchObject({ state: 'done', failed: 0 })
  expect(moved.moved).toBe(at())
  expect(Math.abs(moved.moved - 16)).toBeLessThanOrEqual(4 * Math.sqrt(80 * 0.2 * 0.8))
  await expectUnharmed(clients)

  // New ones come in the same proportion, and neither a plan nor time undoes it.
  clients.push(...(await connectClients(gateway.wsUrl, 80)))
  const share = at() / 160
  expect(Math.abs(share - 0.2)).toBeLessThanOrEqual(4 * Math.sqrt((0.2 * 0.8) / 160))
  const before = at()
  expect(gateway.operator.rebalance({ dryRun: true })[0]!.total).toBe(0)
  const passed = await api.state(started.canary.id, 'passed')
  expect(passed.reason).toContain('0 failures')
  expect(at()).toBe(before)

  const more = await api.promote(started.canary.id, 50)
  const raised = await api.ended(more)
  expect(raised.state).toBe('done')
  expect(at()).toBe(before + raised.moved)
  expect(Math.abs(at() - 80)).toBeLessThanOrEqual(4 * Math.sqrt(160 * 0.25))

  const back = await api.ended(await api.return(started.canary.id))
  expect(back).toMatchObject({ state: 'done', moved: before + raised.moved, failed: 0 })
  expect(at()).toBe(0)
  await api.state(started.canary.id, 'returned')
  await expectUnharmed(clients)
  // The version gets no more, whatever its weight is.
  gateway.operator.setWeight('new', 5)
  expect(gateway.operator.rebalance()[0]!.total).toBe(0)
  clients.push(...(await connectClients(gateway.wsUrl, 10)))
  expect(at()).toBe(0)
}, 30_000)

test('a version whose handlers fail is left again by itself', async () => {
  const gateway = await startTestGateway({ rebalance })
  await startVersions(gateway, {
    next: {
      message(session, data) {
        if (String(data) === '2') throw new Error('broken')
        session.send(data)
      },
    },
  })
  const api = new CanaryApi(gateway)
  const clients = await connectClients(gateway.wsUrl, 60)
  const started = await api.start({ pool, version: '2', percent: 40, watchMs: 60_000 })
  const { moved } = await api.ended(started)
  await expectUnharmed(clients)
  const [first, ...others] = gateway.operator.sessions({ node: 'new', limit: 100 }).sessions
  expect(others.length + 1).toBe(moved)
  expect(first).toBeDefined()
  // Some of them send what breaks it; all the others go on at the old version.
  for (const client of clients) client.send()
  const failed = await api.state(started.canary.id, 'returned')
  expect(failed.reason).toMatch(/failures in .* session hours, 0 in/)
  expect(failed.seen.canary.failures).toBeGreaterThanOrEqual(3)
  expect(failed.seen.others.failures).toBe(0)
  expect(gateway.operator.node('new').sessions).toBe(0)
  const closed = clients.filter(({ closedWith }) => closedWith !== null)
  expect(closed.every(({ closedWith }) => closedWith === 1011)).toBe(true)
  await expectUnharmed(clients.filter(({ closedWith }) => closedWith === null))
}, 30_000)

test('when the node of the version dies its sessions go back to old nodes, and no more come', async () => {
  const gateway = await startTestGateway({ rebalance })
  const api = new CanaryApi(gateway)
  await startTestNode(gateway, echo, { id: 'a', version: '1' })
  const wire = await LinkProxy.to(gateway.internalPort)
  const next = { version: '2', weight: 0.001 }
  await startTestNode(gateway, echo, { id: 'new', ...next, gateways: [wire.url] })
  const clients = await connectClients(gateway.wsUrl, 40)
  const started = await api.start({ pool, version: '2', percent: 50, watchMs: 60_000 })
  const { moved } = await api.ended(started)
  expect(moved).toBeGreaterThan(5)
  // As a process that is killed: without a word.
  wire.cut()
  const returned = await api.state(started.canary.id, 'returned')
  expect(returned.reason).toContain('node new went down')
  await expectUnharmed(clients)
  // Another node of the version gets nothing.
  await startTestNode(gateway, echo, { id: 'newer', ...next, weight: 10 })
  clients.push(...(await connectClients(gateway.wsUrl, 10)))
  expect(gateway.operator.node('newer').sessions).toBe(0)
  expect(gateway.operator.node('a').sessions).toBe(50)
}, 30_000)

test('gateways agree by way of the nodes alone; promoted, the version gets the whole pool', async () => {
  const first = await startTestGateway({ rebalance, gatewayId: 'gw-1' })
  const second = await startTestGateway({ rebalance, gatewayId: 'gw-2' })
  await startVersions(first, { gateways: [first.linkUrl, second.linkUrl] })
  const [api, other] = [new CanaryApi(first), new CanaryApi(second)]
  const clients = await connectClients(first.wsUrl, 40)
  clients.push(...(await connectClients(second.wsUrl, 40)))
  const started = await api.start({ pool, version: '2', percent: 50, watchMs: 60_000 })
  await api.ended(started)
  // The second one moves its part, without any Redis.
  await expect
    .poll(async () => (await other.list()).map(({ id, left, moved }) => [id, left, moved > 5]))
    .toEqual([[started.canary.id, 0, true]])
  const promoted = await other.ended(await other.promote(started.canary.id))
  expect(promoted.state).toBe('done')
  await api.state(started.canary.id, 'promoted')
  for (const { operator } of [first, second]) {
    expect(operator.node('new').sessionsHere).toBe(40)
    expect(operator.node('a').state).toBe('drained')
  }
  await expectUnharmed(clients)
}, 30_000)

test('a gateway that starts again learns the canary from the nodes', async () => {
  const before = await launchTestGateway({ rebalance })
  await startVersions(before)
  const { canary } = await new CanaryApi(before).start({ pool, version: '2', percent: 50, watchMs: 60_000 })
  await before.close()
  const after = await startTestGateway({ rebalance, internal: { port: before.internalPort } })
  const api = new CanaryApi(after)
  await expect.poll(async () => (await api.list()).map(({ id }) => id)).toEqual([canary.id])
  await expect.poll(() => after.operator.nodes().length).toBe(3)
  const clients = await connectClients(after.wsUrl, 40)
  expect(after.operator.node('new').sessions).toBeGreaterThan(5)
  expect((await api.ended(await api.return(canary.id))).state).toBe('done')
  expect(after.operator.node('new').sessions).toBe(0)
  await expectUnharmed(clients)
}, 30_000)

test('over Redis each gateway moves its part, and what one sees counts for all', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const first = await startTestGateway({ rebalance, redis: redis.url, gatewayId: 'gw-1' })
  const second = await startTestGateway({ rebalance, redis: redis.url, gatewayId: 'gw-2' })
  await startVersions(first, {
    gateways: [first.linkUrl, second.linkUrl],
    next: {
      message(_session, data) {
        if (String(data) === '1') throw new Error('broken')
      },
    },
  })
  const api = new CanaryApi(first)
  const idle = await connectClients(first.wsUrl, 40)
  const clients = await connectClients(second.wsUrl, 40)
  await expect.poll(() => first.operator.gateways().length).toBe(2)
  const started = await api.start({ pool, version: '2', percent: 50, watchMs: 60_000 })
  const moved = await api.ended(started)
  expect(moved.state).toBe('done')
  const there = [first, second].map(({ operator }) => operator.node('new').sessionsHere)
  expect(Math.min(...there)).toBeGreaterThan(5)
  expect(moved.moved).toBe(there[0]! + there[1]!)
  // All failures are at the second gateway; the first one was asked, and judges.
  for (const client of clients) client.send()
  const returned = await api.state(started.canary.id, 'returned')
  expect(returned.reason).toContain('failures in')
  expect(returned).toMatchObject({ gateway: 'gw-1', left: 0, sessions: 0, returned: there[0]! })
  expect(second.operator.canaries.get(started.canary.id)).toMatchObject({ state: 'returned' })
  await expectUnharmed(idle)
}, 30_000)

describe('what is refused', () => {
  test('says why', async () => {
    const gateway = await startTestGateway({ rebalance })
    const api = new CanaryApi(gateway)
    await startTestNode(gateway, echo, { id: 'a', version: '1' })
    const order = { pool, version: '2', percent: 1 }
    await expect(api.start(order)).rejects.toThrow(/409 .*no active node of version 2; versions: 1/)
    await expect(api.start({ ...order, version: '1' })).rejects.toThrow(/409 .*nothing to compare/)
    await expect(api.start({ ...order, pool: 'zz' })).rejects.toThrow(/404 .*no pool zz/)
    await startTestNode(gateway, echo, { id: 'b', version: '2' })
    for (const percent of [0, 0.09, 50.1, '1']) {
      await expect(api.start({ ...order, percent: percent as number })).rejects.toThrow(/400 .*percent/)
    }
    await expect(api.start({ ...order, watchMs: 0 })).rejects.toThrow(/400 .*watchMs/)
    const started = await api.start(order)
    await expect(api.start(order)).rejects.toThrow(/409 .*has a canary already/)
    await expect(api.promote(started.canary.id, 0.5)).rejects.toThrow(/400 .*above the 1 %/)
    await expect(api.return('zz')).rejects.toThrow(/404/)
    await api.return(started.canary.id)
    await api.state(started.canary.id, 'returned')
    await expect(api.promote(started.canary.id)).rejects.toThrow(/409 .*is returned/)
    // Another one takes the place of one that was returned.
    const again = await api.start({ ...order, percent: 0.1 })
    expect((await api.get(started.canary.id)).state).toBe('ended')
    expect((await api.list()).map(({ id }) => id)).toEqual([again.canary.id, started.canary.id])
  })
})
