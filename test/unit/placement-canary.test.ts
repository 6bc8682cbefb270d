import { describe, expect, test } from 'vitest'
import { type Canary, isDrawn } from '../../src/core/balance/canary.ts'
import { NodeTable } from '../../src/gateway/node-table.ts'
import { Placement } from '../../src/gateway/placement.ts'
import type { Session } from '../../src/gateway/session.ts'
import type { Link } from '../../src/link/link.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { createRandom, testSeed } from '../support/random.ts'

const watch = { watchMs: 1, maxErrorRatio: 2, maxTimeRatio: 3, minSessions: 1, gateway: 'gw', reason: '' }
const canary: Canary = {
  ...{ id: 'can_1', pool: 'default', version: '2', share: 0.1, state: 'watching', revision: 1 },
  ...{ startedAt: 1, watchFrom: 1, changedAt: 1 },
  ...watch,
}
const nobody = { address: '127.0.0.1', headers: {}, query: '' } as never

/** Two nodes of version 1 and one of version 2, under a canary of 10 %. */
function setUp(change: Partial<Canary> = {}) {
  const random = createRandom(testSeed('canary placement')).next
  const nodes = new NodeTable(defaultLimits, { suspect() {}, healthy() {}, down() {} })
  for (const [id, version] of Object.entries({ a: '1', b: '1', new: '2' })) {
    const process = { host: 'h', pid: 1, instance: `of-${id}-1` }
    const hello = { protocol: 1, id, pool: 'default', weight: 1, maxSessions: null, version, ...process }
    nodes.join(hello, { terminate() {} } as Link)
  }
  const rules = { policy: 'random' as const }
  const placement = new Placement({ nodes, rules, pools: new Map(), maxOverShare: 100, random })
  placement.canaryOf = () => ({ ...canary, ...change })
  const place = (id: string) => placement.place({ pool: 'default', id, avoids: null } as Session)?.id
  const ids = Array.from({ length: 500 }, (_, i) => `session-${i}`)
  return { nodes, placement, place, ids }
}

describe('sessions', () => {
  test('go to the side that they belong to', () => {
    const { place, ids } = setUp()
    for (const id of ids) expect(place(id) === 'new', id).toBe(isDrawn(canary, id))
  })

  test('go to the other side while theirs has no node for them', () => {
    const { nodes, place, ids } = setUp()
    nodes.get('new')!.state = 'draining'
    expect(ids.map(place).every((node) => node === 'a' || node === 'b')).toBe(true)
    nodes.get('new')!.state = 'active'
    for (const id of ['a', 'b']) nodes.get(id)!.state = 'draining'
    expect(ids.map(place).every((node) => node === 'new')).toBe(true)
  })

  test('of a version that is returned go to the others', () => {
    const { place, ids } = setUp({ state: 'returned' })
    expect(ids.map(place)).not.toContain('new')
  })
})

describe('clients', () => {
  test('without a wish go to the version as often as the share says', () => {
    const { placement } = setUp()
    const times = 2_000
    let there = 0
    for (let i = 0; i < times; i++) if (placement.choose('default', null, nobody, null)?.id === 'new') there++
    expect(Math.abs(there - times * 0.1)).toBeLessThan(4 * Math.sqrt(times * 0.1 * 0.9))
  })

  test('that had a node return to it, but not to one of a version that was returned', () => {
    const { placement } = setUp()
    for (const node of ['a', 'b', 'new'])
      expect(placement.choose('default', { node }, nobody, null)?.id).toBe(node)
    const returned = setUp({ state: 'returned' }).placement
    expect(returned.choose('default', { node: 'new' }, nobody, null)?.id).not.toBe('new')
  })

  test('that are known by a key always go to the same node, and in the same proportion', () => {
    const { placement } = setUp()
    const keys = Array.from({ length: 1_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
    const chosen = () => keys.map((key) => placement.choose('default', { key }, nobody, null)?.id)
    const first = chosen()
    expect(chosen()).toEqual(first)
    const there = first.filter((id) => id === 'new').length
    expect(Math.abs(there - 100)).toBeLessThan(4 * Math.sqrt(90))
  })
})
