import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { type Candidate, isEligible, load } from '../../../src/core/balance/candidate.ts'
import { persistentNode, type Wish } from '../../../src/core/balance/persistence.ts'
import { busy, node, sum, takesPart } from './clusters.ts'

const quarter = 0.25

describe('a node that is wished for', () => {
  test.each<[string, Candidate[], string | null]>([
    ['is given', [node('a', 100), node('b', 100)], 'a'],
    ['though another one has fewer sessions', [node('a', 110), node('b', 90)], 'a'],
    ['up to its share and a quarter', [node('a', 249), node('b', 150)], 'a'],
    ['but not beyond', [node('a', 250), node('b', 149)], null],
    ['by weight', [node('a', 249, { weight: 2 }), node('b', 50)], 'a'],
    ['beyond its share by weight', [node('a', 249), node('b', 50, { weight: 2 })], null],
    ['in a small pool, up to eight sessions beyond', [node('a', 15), node('b', 0)], 'a'],
    ['in a small pool, not farther beyond', [node('a', 16), node('b', 0)], null],
    ['not while it drains', [node('a', 1, { active: false }), node('b', 9)], null],
    ['not while it is suspect', [node('a', 1, { healthy: false }), node('b', 9)], null],
    ['not when it is full', [node('a', 5, { maxSessions: 5 }), node('b', 9)], null],
    ['not without weight', [node('a', 1, { weight: 0 }), node('b', 9)], null],
    ['not when it is gone', [node('b', 9)], null],
    [
      'also when it keeps its sessions, but not beyond',
      [node('a', 300, { keepsSessions: true }), node('b', 0)],
      null,
    ],
    ['as the only one, whatever it has', [node('a', 1_000_000)], 'a'],
  ])('%s', (_, nodes, expected) => {
    expect(persistentNode(nodes, { node: 'a' }, quarter)?.id ?? null).toBe(expected)
  })

  it('may be told apart from one that is far over its share by a wider limit', () => {
    const nodes = [node('a', 300), node('b', 100)]
    expect(persistentNode(nodes, { node: 'a' }, 0.25)).toBeNull()
    expect(persistentNode(nodes, { node: 'a' }, 1)?.id).toBe('a')
  })
})

const wishes: fc.Arbitrary<Wish> = fc.oneof(
  fc.nat(31).map((n) => ({ node: `n${n}` })),
  fc.ipV4().map((key) => ({ key })),
)

it('is only given what can take a session and stays within the limit', () => {
  fc.assert(
    fc.property(busy, wishes, fc.constantFrom(0, 0.1, 0.25, 2), (nodes, wish, maxOverShare) => {
      const got = persistentNode(nodes, wish, maxOverShare)
      if (got === null) return
      expect(isEligible(got)).toBe(true)
      if ('node' in wish) expect(got.id).toBe(wish.node)
      const taking = nodes.filter(takesPart)
      const fair = ((sum(taking.map(load)) + 1) * got.weight) / sum(taking.map((one) => one.weight))
      expect(load(got) + 1).toBeLessThanOrEqual(Math.max(fair * (1 + maxOverShare), fair + 8) * (1 + 1e-9))
    }),
    { numRuns: 2_000 },
  )
})

describe('by key', () => {
  const keys = Array.from({ length: 3_000 }, (_, i) => `10.${i >> 8}.${i & 255}.7`)
  const where = (nodes: Candidate[]) =>
    new Map(keys.map((key) => [key, persistentNode(nodes, { key }, quarter)?.id]))
  const three = [node('a', 100), node('b', 100, { weight: 2 }), node('c', 100)].map((one) => ({
    ...one,
    sessions: 100 * one.weight,
  }))

  it('each node gets its weight of the keys, and the order of the nodes does not matter', () => {
    const placed = where(three)
    const counts = Map.groupBy(placed.values(), (id) => id)
    for (const { id, weight } of three)
      expect(Math.abs(counts.get(id)!.length / keys.length - weight / 4)).toBeLessThan(0.04)
    expect(where(three.toReversed())).toEqual(placed)
  })

  it('a node that goes takes only its own keys with it, and gets them back', () => {
    const before = where(three)
    const without = where(three.map((one) => (one.id === 'b' ? { ...one, active: false } : one)))
    for (const [key, id] of before) {
      if (id !== 'b') expect(without.get(key)).toBe(id)
      else expect(['a', 'c']).toContain(without.get(key))
    }
    expect(where(three)).toEqual(before)
  })

  it('a node that is far over its share is passed over', () => {
    const nodes = [node('a', 1_000), node('b', 10), node('c', 10)]
    expect([...new Set(where(nodes).values())].toSorted()).toEqual(['b', 'c'])
  })

  it('finds a node whenever one has room, whatever the names', () => {
    fc.assert(
      fc.property(fc.string(), fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 1 }), (key, ids) => {
        const nodes = ids.map((id) => node(id, 5))
        expect(ids).toContain(persistentNode(nodes, { key }, quarter)?.id)
      }),
    )
  })
})
