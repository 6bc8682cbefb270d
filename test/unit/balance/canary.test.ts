import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  closestId,
  groupsOf,
  isDrawn,
  isLater,
  isNewer,
  parseCanary,
  planGroups,
  shareNow,
} from '../../../src/core/balance/canary.ts'
import type { Candidate } from '../../../src/core/balance/candidate.ts'
import { canary } from '../../support/canary-one-percent.ts'
import { createRandom, testSeed } from '../../support/random.ts'

const ids = Array.from({ length: 10_000 }, () => randomBytes(16).toString('base64url'))

describe('who is drawn', () => {
  test.each([0.001, 0.01, 0.1, 0.5])('a part of %d of the sessions, within four deviations', (share) => {
    const drawn = ids.filter((id) => isDrawn({ ...canary, share }, id)).length
    const deviation = Math.sqrt(ids.length * share * (1 - share))
    expect(Math.abs(drawn - ids.length * share)).toBeLessThan(4 * deviation + 1)
  })

  test('the same at any time, and with a higher share all of them and more', () => {
    const few = ids.filter((id) => isDrawn(canary, id))
    expect(ids.filter((id) => isDrawn({ ...canary, revision: 9, state: 'passed' }, id))).toEqual(few)
    expect(few.every((id) => isDrawn({ ...canary, share: 0.02 }, id))).toBe(true)
  })

  test('an id is taken that draws nearly as many as it should of those who are there', () => {
    let made = 0
    const id = closestId(ids, 0.01, () => `can_${++made}`)
    const drawn = ids.filter((session) => isDrawn({ ...canary, id }, session)).length
    expect(Math.abs(drawn - 100)).toBeLessThanOrEqual(10)
    expect(made).toBeLessThanOrEqual(16)
    expect(closestId([], 0.5, () => 'can_x')).toBe('can_x')
  })

  test('another canary draws others', () => {
    const half = { ...canary, share: 0.5 }
    const both = ids.filter((id) => isDrawn(half, id) && isDrawn({ ...half, id: 'can_2' }, id)).length
    expect(Math.abs(both - 2_500)).toBeLessThan(4 * Math.sqrt(10_000 * 0.25 * 0.75))
  })

  test.each(['returning', 'returned'] as const)('nobody while it is %s', (state) => {
    expect(shareNow({ ...canary, state })).toBe(0)
    expect(ids.some((id) => isDrawn({ ...canary, share: 0.5, state }, id))).toBe(false)
  })
})

describe('plans', () => {
  const node = (id: string, version: string | null, sessions: number) => {
    const rest = { weight: 1, pending: 0, maxSessions: null, healthy: true, active: true }
    return { id, version, sessions, ...rest } satisfies Candidate & { version: string | null }
  }

  test('without a canary all nodes are one group, with one each side is one', () => {
    const nodes = [node('a', '1', 1), node('b', null, 1), node('c', '2', 1)]
    const idsOf = (groups: readonly (readonly { id: string }[])[]) => groups.map((g) => g.map(({ id }) => id))
    expect(idsOf(groupsOf(nodes, null))).toEqual([['a', 'b', 'c']])
    expect(idsOf(groupsOf(nodes, canary))).toEqual([['c'], ['a', 'b']])
  })

  test('a share that is far from fair is left alone; each side is evened out', () => {
    const even = [node('a', '1', 500), node('b', '1', 500), node('c', '2', 10)]
    expect(planGroups(groupsOf(even, canary), {}).total).toBe(0)
    expect(planGroups(groupsOf(even, null), {}).total).toBeGreaterThan(300)
    const uneven = [node('a', '1', 600), node('b', '1', 400), node('c', '2', 20), node('d', '2', 0)]
    const plan = planGroups(groupsOf(uneven, canary), { tolerance: 0 })
    expect(plan.moves.map(({ from, to }) => from + to).toSorted()).toEqual(['ab', 'cd'])
    expect(plan.imbalanceBefore).toBe(1)
  })

  test('over random pools no move crosses, and no more are made than the bound', () => {
    const seed = testSeed('canary plans')
    const random = createRandom(seed)
    for (let round = 0; round < 200; round++) {
      const nodes = Array.from({ length: random.int(2, 9) }, (_, i) =>
        node(`n${i}`, random.chance(0.3) ? '2' : '1', random.int(0, 300)),
      )
      const versionOf = new Map(nodes.map(({ id, version }) => [id, version]))
      const maxMoves = random.int(0, 100)
      const plan = planGroups(groupsOf(nodes, canary), { maxMoves })
      for (const { from, to } of plan.moves) expect(versionOf.get(from)).toBe(versionOf.get(to))
      expect(
        plan.moves.reduce((sum, { count }) => sum + count, 0),
        `seed ${seed}`,
      ).toBe(plan.total)
      expect(plan.total).toBeLessThanOrEqual(maxMoves)
    }
  })
})

test('of two canaries the later one holds, of two states the newer one: whoever is asked', () => {
  const other = { ...canary, id: 'can_2' }
  expect([isLater(other, canary), isLater(canary, other)]).toEqual([true, false])
  expect(isLater({ ...canary, startedAt: 6 }, other)).toBe(true)
  const changed = { ...canary, revision: 8, state: 'passed' as const }
  expect([isNewer(changed, canary), isNewer(canary, changed), isNewer(canary, canary)]).toEqual([
    true,
    false,
    false,
  ])
})

test('what nodes keep is read as it was written; anything else is nothing', () => {
  expect(parseCanary(JSON.stringify(canary))).toEqual(canary)
  const bad = [
    { share: 1.5 },
    { share: '0.5' },
    { state: 'lost' },
    { pool: '' },
    { revision: -1 },
    { maxErrorRatio: 0 },
    { watchMs: 0.5 },
    { reason: 'x'.repeat(201) },
    { version: undefined },
  ]
  for (const change of bad) expect(parseCanary(JSON.stringify({ ...canary, ...change }))).toBeNull()
  for (const text of ['', '{', 'null', '3', '[]']) expect(parseCanary(text)).toBeNull()
})
