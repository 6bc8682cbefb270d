import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { type Candidate, isEligible, load, warmthAt } from '../../../src/core/balance/candidate.ts'
import {
  isPolicyName,
  type PickContext,
  type Policy,
  type PolicyName,
  policies,
} from '../../../src/core/balance/policies.ts'
import { seededRandom } from '../../../src/core/seeded-random.ts'

const names = Object.keys(policies) as PolicyName[]

function candidate(id: string, fields: Partial<Candidate> = {}): Candidate {
  return { id, weight: 1, sessions: 0, pending: 0, maxSessions: null, healthy: true, active: true, ...fields }
}

function seeded(seed: number): PickContext {
  return { random: seededRandom(seed) }
}

function counts(
  policy: Policy,
  candidates: readonly Candidate[],
  picks: number,
  context = seeded(1),
): Record<string, number> {
  const result: Record<string, number> = Object.fromEntries(candidates.map(({ id }) => [id, 0]))
  for (let i = 0; i < picks; i++) {
    const picked = policy.pick(candidates, context)
    if (picked !== null) result[picked.id]!++
  }
  return result
}

const anyCandidate = fc.record({
  weight: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.double({ min: 0.01, max: 100, noNaN: true })),
  sessions: fc.nat(50),
  pending: fc.nat(3),
  maxSessions: fc.option(fc.nat(50)),
  healthy: fc.boolean(),
  active: fc.boolean(),
})
const anyPool = fc
  .array(anyCandidate, { maxLength: 12 })
  .map((nodes) => nodes.map((node, i) => ({ id: `n${i}`, ...node })))
const anySeed = fc.integer()

describe('eligibility', () => {
  test.each<[string, Partial<Candidate>, boolean]>([
    ['an empty node', {}, true],
    ['a node with room for one more', { sessions: 8, pending: 1, maxSessions: 10 }, true],
    ['a full node', { sessions: 10, maxSessions: 10 }, false],
    ['a node that pending sessions fill up', { sessions: 8, pending: 2, maxSessions: 10 }, false],
    ['a node over its maximum', { sessions: 11, maxSessions: 10 }, false],
    ['a node that takes none', { maxSessions: 0 }, false],
    ['a suspect node', { healthy: false }, false],
    ['a draining node', { active: false }, false],
    ['a node without weight', { weight: 0 }, false],
  ])('%s', (_, fields, expected) => {
    expect(isEligible(candidate('a', fields))).toBe(expected)
  })
})

describe('names', () => {
  it('knows the policies and nothing else', () => {
    expect(names.every(isPolicyName)).toBe(true)
    for (const other of ['', 'least', 'toString', '__proto__', 'constructor', undefined, null, 1]) {
      expect(isPolicyName(other)).toBe(false)
    }
  })
})

describe.each(names)('%s', (name) => {
  it('picks an eligible candidate, or null when there is none', () => {
    fc.assert(
      fc.property(anyPool, anySeed, (pool, seed) => {
        const policy = policies[name]()
        const context = seeded(seed)
        for (let i = 0; i < 5; i++) {
          const picked = policy.pick(pool, context)
          if (pool.some(isEligible))
            expect(picked !== null && pool.includes(picked) && isEligible(picked)).toBe(true)
          else expect(picked).toBeNull()
        }
      }),
      { numRuns: 500 },
    )
  })

  it.each([0, 1 - 2 ** -53])('works at the edge of the random range, %d', (value) => {
    const policy = policies[name]()
    const pool = [candidate('a'), candidate('b', { weight: 1e6 }), candidate('c', { weight: 1e-6 })]
    expect(policy.pick(pool, { random: () => value })).not.toBeNull()
  })

  it('reaches every one of equal empty nodes about equally', () => {
    const pool = ['a', 'b', 'c', 'd'].map((id) => candidate(id))
    for (const count of Object.values(counts(policies[name](), pool, 4_000))) {
      expect(count).toBeGreaterThan(900)
      expect(count).toBeLessThan(1_100)
    }
  })
})

describe('weighted-least-connections', () => {
  const create = policies['weighted-least-connections']

  test.each<[string, Candidate[], string]>([
    ['fewest sessions', [candidate('a', { sessions: 2 }), candidate('b', { sessions: 1 })], 'b'],
    [
      'pending sessions count',
      [candidate('a', { sessions: 1, pending: 2 }), candidate('b', { sessions: 2 })],
      'b',
    ],
    ['weight', [candidate('a', { sessions: 3 }), candidate('b', { sessions: 4, weight: 2 })], 'b'],
    [
      'the new session counts: an empty light node loses',
      [candidate('a'), candidate('b', { sessions: 1, weight: 3 })],
      'b',
    ],
    [
      'a full node is passed over',
      [candidate('a', { maxSessions: 0 }), candidate('b', { sessions: 9 })],
      'b',
    ],
  ])('%s', (_, pool, expected) => {
    expect(create().pick(pool, seeded(1))?.id).toBe(expected)
    expect(create().pick(pool.toReversed(), seeded(1))?.id).toBe(expected)
  })

  it('takes the lowest (load + 1) / weight', () => {
    fc.assert(
      fc.property(anyPool, anySeed, (pool, seed) => {
        const score = (node: Candidate) => (load(node) + 1) / node.weight
        const picked = create().pick(pool, seeded(seed))
        for (const other of pool.filter(isEligible)) expect(score(picked!)).toBeLessThanOrEqual(score(other))
      }),
      { numRuns: 1_000 },
    )
  })

  it('draws lots among the tied, wherever they stand in the list', () => {
    const pool = ['a', 'b', 'c', 'd', 'e'].map((id) =>
      candidate(id, { sessions: id === 'b' || id === 'd' ? 7 : 0 }),
    )
    const { a, b, c, d, e } = counts(create(), pool, 3_000)
    expect([b, d]).toEqual([0, 0])
    for (const count of [a, c, e]) expect(Math.abs(count! - 1_000)).toBeLessThan(100)
  })

  it('fills nodes by weight: each has at least its share rounded down', () => {
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(weights, fc.nat(300), anySeed, (list, total, seed) => {
        const pool = list.map((weight, i) => candidate(`n${i}`, { weight }))
        const policy = create()
        const context = seeded(seed)
        for (let i = 0; i < total; i++) policy.pick(pool, context)!.sessions++
        const sum = list.reduce((a, b) => a + b)
        for (const node of pool)
          expect(node.sessions).toBeGreaterThanOrEqual(Math.floor((total * node.weight) / sum))
      }),
      { numRuns: 300 },
    )
  })
})

describe('round-robin', () => {
  const create = policies['round-robin']

  it('gives each node one in turn, in whatever order the list comes', () => {
    const pools = fc
      .uniqueArray(fc.string({ minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 10 })
      .chain((ids) =>
        fc.array(fc.shuffledSubarray(ids, { minLength: ids.length }), { minLength: 1, maxLength: 5 }),
      )
    fc.assert(
      fc.property(pools, (rounds) => {
        const policy = create()
        for (const ids of rounds) {
          const picked = ids.map((_, i) => {
            const turned = [...ids.slice(i), ...ids.slice(0, i)]
            return policy.pick(
              turned.map((id) => candidate(id)),
              seeded(1),
            )!.id
          })
          expect(picked.toSorted()).toEqual(ids.toSorted())
        }
      }),
      { numRuns: 500 },
    )
  })

  it('serves no node twice before another that was there all the time, while nodes come and go', () => {
    const ids = ['a', 'b', 'c', 'd', 'e', 'f']
    const changes = fc.array(fc.subarray(ids, { minLength: 1 }), { minLength: 2, maxLength: 40 })
    fc.assert(
      fc.property(changes, (steps) => {
        const policy = create()
        const picked = steps.map((present) => {
          const pool = ids.map((id) => candidate(id, { active: present.includes(id) }))
          return policy.pick(pool, seeded(1))!.id
        })
        picked.forEach((id, end) => {
          const start = picked.lastIndexOf(id, end - 1)
          if (end === 0 || start < 0) return
          const between = picked.slice(start, end)
          const always = ids.filter((other) =>
            steps.slice(start + 1, end + 1).every((present) => present.includes(other)),
          )
          for (const other of always) if (other !== id) expect(between).toContain(other)
        })
      }),
      { numRuns: 1_000 },
    )
  })
})

describe('random', () => {
  it('follows the weights', () => {
    const pool = [
      candidate('a'),
      candidate('b', { weight: 3 }),
      candidate('c', { weight: 6 }),
      candidate('off', { active: false }),
    ]
    const { a, b, c, off } = counts(policies.random(), pool, 10_000)
    expect(off).toBe(0)
    for (const [count, expected] of [
      [a, 1_000],
      [b, 3_000],
      [c, 6_000],
    ] as const) {
      expect(Math.abs(count! - expected)).toBeLessThan(200)
    }
  })
})

const anyWeights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 2, maxLength: 12 })

/** Gives the pool `total` sessions, one after the other. */
function fill(policy: Policy, pool: Candidate[], total: number, context = seeded(1)): void {
  for (let i = 0; i < total; i++) policy.pick(pool, { ...context, key: `client-${i}` })!.sessions++
}

describe('least-connections', () => {
  it('counts sessions alone', () => {
    const pool = [candidate('a', { weight: 9, sessions: 3 }), candidate('b', { sessions: 2 })]
    expect(policies['least-connections']().pick(pool, seeded(1))?.id).toBe('b')
  })
})

describe('smooth-weighted-round-robin', () => {
  const create = policies['smooth-weighted-round-robin']

  it('mixes the turns evenly', () => {
    const pool = [candidate('a', { weight: 5 }), candidate('b'), candidate('c')]
    const policy = create()
    const turns = Array.from({ length: 7 }, () => policy.pick(pool, seeded(1))!.id)
    expect(turns.join('')).toBe('aabacaa')
  })

  it('is never more than one turn away from the weights, after any number of turns', () => {
    fc.assert(
      fc.property(anyWeights, fc.integer({ min: 1, max: 300 }), (weights, turns) => {
        const pool = weights.map((weight, i) => candidate(`n${i}`, { weight }))
        const sum = weights.reduce((a, b) => a + b)
        fill(create(), pool, turns)
        for (const { sessions, weight } of pool)
          expect(Math.abs(sessions - (turns * weight) / sum)).toBeLessThan(pool.length)
        if (turns % sum === 0)
          for (const { sessions, weight } of pool) expect(sessions).toBe((turns * weight) / sum)
      }),
    )
  })
})

describe.each(['ip-hash', 'key-hash'] as const)('%s', (name) => {
  const create = policies[name]
  const pick = (pool: readonly Candidate[], key: string) => create().pick(pool, { ...seeded(1), key })!.id
  const keys = Array.from({ length: 2_000 }, (_, i) => `key-${i}`)

  it('leads a key to the same node, in whatever order the nodes stand', () => {
    const pool = ['a', 'b', 'c', 'd'].map((id) => candidate(id))
    for (const key of keys.slice(0, 200)) expect(pick(pool, key)).toBe(pick(pool.toReversed(), key))
  })

  it('keeps every node within a quarter of its share by weight', () => {
    fc.assert(
      fc.property(anyWeights, fc.integer({ min: 1, max: 500 }), (weights, total) => {
        const pool = weights.map((weight, i) => candidate(`n${i}`, { weight }))
        const sum = weights.reduce((a, b) => a + b)
        fill(create(), pool, total)
        for (const { sessions, weight } of pool)
          expect(sessions).toBeLessThanOrEqual(Math.ceil((1.25 * total * weight) / sum))
      }),
      { numRuns: 200 },
    )
  })

  it('moves at most 1/n and a quarter of the keys when a node leaves', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40 }), fc.nat(), (size, leaving) => {
        const pool = Array.from({ length: size }, (_, i) => candidate(`n${i}`))
        const rest = pool.filter((_, i) => i !== leaving % size)
        const place = (nodes: Candidate[]) => {
          const policy = create()
          const placed = new Map<string, string>()
          for (const node of nodes) node.sessions = 0
          for (const key of keys) {
            const node = policy.pick(nodes, { ...seeded(1), key })!
            node.sessions++
            placed.set(key, node.id)
          }
          return placed
        }
        const before = place(pool)
        const after = place(rest)
        const moved = keys.filter((key) => before.get(key) !== after.get(key)).length
        expect(moved / keys.length).toBeLessThanOrEqual(1 / size + 0.25)
      }),
      { numRuns: 40 },
    )
  })

  it('fills what is left when every node is at its bound', () => {
    const pool = [candidate('a', { sessions: 100, maxSessions: 100 }), candidate('b', { sessions: 900 })]
    expect(pick(pool, 'x')).toBe('b')
  })
})

describe('least-response-time', () => {
  const create = policies['least-response-time']

  test.each<[string, Candidate[], string]>([
    ['the faster of two', [candidate('a', { responseMs: 9 }), candidate('b', { responseMs: 2 })], 'b'],
    [
      'a fast one that is crowded waits longer',
      [candidate('a', { responseMs: 1, sessions: 9 }), candidate('b', { responseMs: 2, sessions: 1 })],
      'b',
    ],
    [
      'one that has not answered yet counts as an average one',
      [candidate('a', { responseMs: 8 }), candidate('b', { responseMs: 2 }), candidate('c', { weight: 3 })],
      'c',
    ],
    ['by weight', [candidate('a', { responseMs: 2, weight: 4 }), candidate('b', { responseMs: 1 })], 'a'],
  ])('%s', (_, pool, expected) => {
    expect(create().pick(pool, seeded(1))?.id).toBe(expected)
  })

  it('does not flood the fastest: a burst spreads by speed', () => {
    const pool = [candidate('fast', { responseMs: 1 }), candidate('slow', { responseMs: 3 })]
    fill(create(), pool, 400)
    expect(pool.map(({ sessions }) => sessions)).toEqual([300, 100])
  })
})

describe('least-bandwidth', () => {
  const create = policies['least-bandwidth']

  it('takes the one with the least traffic by weight, whatever its sessions', () => {
    const pool = [
      candidate('a', { bytesPerSecond: 900, sessions: 1 }),
      candidate('b', { bytesPerSecond: 1_000, sessions: 50, weight: 2 }),
    ]
    expect(create().pick(pool, seeded(1))?.id).toBe('b')
  })

  it('spreads a burst that comes before the next measurement', () => {
    const pool = ['a', 'b', 'c'].map((id) =>
      candidate(id, { bytesPerSecond: 1_000, sessions: 10, unmeasured: 0 }),
    )
    for (let i = 0; i < 300; i++) {
      const picked = create().pick(pool, seeded(i))!
      picked.sessions++
      picked.unmeasured!++
    }
    for (const { sessions } of pool) expect(sessions).toBe(110)
  })
})

describe('power-of-two-choices', () => {
  const create = policies['power-of-two-choices']

  it('never takes the most crowded of several', () => {
    const pool = [candidate('a', { sessions: 9 }), candidate('b', { sessions: 1 }), candidate('c')]
    expect(counts(create(), pool, 500).a).toBe(0)
  })

  it('keeps the most crowded of n nodes near the average: log log n above it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 200 }), anySeed, (size, seed) => {
        const pool = Array.from({ length: size }, (_, i) => candidate(`n${i}`))
        fill(create(), pool, size * 20, seeded(seed))
        const most = Math.max(...pool.map(({ sessions }) => sessions))
        expect(most - 20).toBeLessThanOrEqual(Math.log2(Math.max(2, Math.log2(size))) + 4)
      }),
      { numRuns: 50 },
    )
  })

  it('finds the one that can take a session among many that cannot', () => {
    const pool = Array.from({ length: 500 }, (_, i) => candidate(`n${i}`, { active: i === 321 }))
    expect(create().pick(pool, seeded(1))?.id).toBe('n321')
  })
})

describe('slow start', () => {
  test.each([
    [0, 0, 1],
    [0, 10_000, 0.1],
    [500, 10_000, 0.1],
    [5_000, 10_000, 0.5],
    [10_000, 10_000, 1],
    [99_000, 10_000, 1],
  ])('%d ms after its start, of %d ms, a node counts for %d', (age, slowStart, expected) => {
    expect(warmthAt(age, slowStart)).toBe(expected)
  })

  it.each(['weighted-least-connections', 'smooth-weighted-round-robin'] as const)(
    'gives a cold node its part only: %s',
    (name) => {
      const pool = [candidate('new', { warmth: 0.25 }), candidate('old')]
      fill(policies[name](), pool, 100)
      expect(pool.map(({ sessions }) => sessions)).toEqual([20, 80])
    },
  )
})
