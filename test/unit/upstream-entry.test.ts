import { expect, test } from 'vitest'
import { isEligible, load } from '../../src/core/balance/candidate.ts'
import { planRebalance } from '../../src/core/balance/planner.ts'
import type { Session } from '../../src/gateway/session.ts'
import type { UpstreamSource } from '../../src/gateway/upstream-directory.ts'
import { UpstreamEntry, type UpstreamMigrate } from '../../src/gateway/upstream-entry.ts'
import { pool, startDirectory } from '../support/directory.ts'

const upstreams = [{ url: 'http://127.0.0.1:1' }, { url: 'http://[::1]:2', weight: 3, id: 'two' }]

async function start(
  migrate: UpstreamMigrate,
): Promise<{ source: UpstreamSource; entries: UpstreamEntry[] }> {
  const { directory: source } = startDirectory([pool('p', { upstreams })], { probe: async () => null })
  await source.settled()
  const entries = source.all().map((upstream) => new UpstreamEntry(upstream, { migrate }, source, () => {}))
  return { source, entries }
}

async function entries(migrate: UpstreamMigrate): Promise<UpstreamEntry[]> {
  return (await start(migrate)).entries
}

test('an upstream is a candidate like any node', async () => {
  const [one, two] = await entries('redial')
  expect([one!.id, one!.weight, two!.id, two!.weight]).toEqual(['127.0.0.1:1', 1, 'two', 3])
  expect([isEligible(one!), one!.maxSessions, one!.keepsSessions]).toEqual([true, null, false])
  expect((await entries('drain'))[0]!.keepsSessions).toBe(true)
  expect(two!.description).toEqual({
    host: '[::1]:2',
    pid: null,
    version: null,
    url: 'http://[::1]:2',
    linkRttMs: null,
  })
})

test('requests in flight weigh when a client is sent somewhere, and move no session', async () => {
  const [one, two] = await entries('redial')
  for (let i = 0; i < 10; i++) one!.assigned.add({ i } as unknown as Session)
  for (let i = 0; i < 30; i++) two!.assigned.add({ i } as unknown as Session)
  for (let i = 0; i < 50; i++) one!.requests.add(() => {})
  one!.dialling = 3
  expect(load(one!)).toBe(63)
  expect(planRebalance([one!.planned, two!.planned], { tolerance: 0.03 }).total).toBe(0)
  expect(planRebalance([one!, two!], { tolerance: 0.03 }).total).toBeGreaterThan(0)
})

test('what an operator wants goes to the directory', async () => {
  const {
    source,
    entries: [one],
  } = await start('drain')
  one!.steer({ weight: 5 })
  one!.steer({ drain: { deadlineMs: 1, ratePerSecond: null } })
  expect(source.get(one!.id)).toMatchObject({ weight: 5, drain: { deadlineMs: 1 } })
})

test('at the deadline of a drain its requests are cut', async () => {
  const [one] = await entries('drain')
  let cut = 0
  for (let i = 0; i < 3; i++) one!.requests.add(() => cut++)
  one!.cutOff()
  expect(cut).toBe(3)
})
