import { expect, test } from 'vitest'
import { isEligible, load } from '../../src/core/balance/candidate.ts'
import { planRebalance } from '../../src/core/balance/planner.ts'
import { ConfiguredUpstreams } from '../../src/gateway/configured-upstreams.ts'
import type { Session } from '../../src/gateway/session.ts'
import { UpstreamEntry, type UpstreamMigrate } from '../../src/gateway/upstream-entry.ts'

const source = new ConfiguredUpstreams([
  {
    name: 'p',
    upstreams: [{ url: 'http://127.0.0.1:1' }, { url: 'http://[::1]:2', weight: 3, id: 'two' }],
    dns: null,
    probe: { path: null, intervalMs: 1, timeoutMs: 1, failures: 1 },
    allowedAddresses: null,
  },
])

function entries(migrate: UpstreamMigrate): UpstreamEntry[] {
  return source.all().map((upstream) => new UpstreamEntry(upstream, migrate, source, () => {}))
}

test('an upstream is a candidate like any node', () => {
  const [one, two] = entries('redial')
  expect([one!.id, one!.weight, two!.id, two!.weight]).toEqual(['127.0.0.1:1', 1, 'two', 3])
  expect([isEligible(one!), one!.maxSessions, one!.keepsSessions]).toEqual([true, null, false])
  expect(entries('drain')[0]!.keepsSessions).toBe(true)
  expect(two!.description).toEqual({
    host: '[::1]:2',
    pid: null,
    version: null,
    url: 'http://[::1]:2',
    linkRttMs: null,
  })
})

test('requests in flight weigh when a client is sent somewhere, and move no session', () => {
  const [one, two] = entries('redial')
  for (let i = 0; i < 10; i++) one!.assigned.add({ i } as unknown as Session)
  for (let i = 0; i < 30; i++) two!.assigned.add({ i } as unknown as Session)
  for (let i = 0; i < 50; i++) one!.requests.add(() => {})
  one!.dialling = 3
  expect(load(one!)).toBe(63)
  expect(planRebalance([one!.planned, two!.planned], { tolerance: 0.03 }).total).toBe(0)
  expect(planRebalance([one!, two!], { tolerance: 0.03 }).total).toBeGreaterThan(0)
})

test('what an operator wants goes to the directory', () => {
  const [one] = entries('drain')
  one!.steer({ weight: 5 })
  one!.steer({ drain: { deadlineMs: 1, ratePerSecond: null } })
  expect(source.get(one!.id)).toMatchObject({ weight: 5, drain: { deadlineMs: 1 } })
})

test('at the deadline of a drain its requests are cut', () => {
  const [one] = entries('drain')
  let cut = 0
  for (let i = 0; i < 3; i++) one!.requests.add(() => cut++)
  one!.cutOff()
  expect(cut).toBe(3)
})
