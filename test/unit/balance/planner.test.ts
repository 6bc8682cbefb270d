import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { type Candidate, load } from '../../../src/core/balance/candidate.ts'
import { fairShares, imbalance, type PlanOptions, planRebalance } from '../../../src/core/balance/planner.ts'
import {
  apply,
  type Band,
  bandsOf,
  busy,
  capacity,
  fits,
  lowerBound,
  maxMoves,
  node,
  noise,
  settled,
  sharesByWaterLevel,
  sum,
  takesPart,
  tolerance,
} from './clusters.ts'

const keeper = (id: string, sessions: number) => node(id, sessions, { keepsSessions: true })

/** Together the properties below see more than 10,000 clusters. */
const runs = { numRuns: 1_500 }

describe('fair shares', () => {
  test.each<[string, Candidate[], Record<string, number>]>([
    ['by weight', [node('a', 90, { weight: 2 }), node('b', 0)], { a: 60, b: 30 }],
    ['not whole', [node('a', 5), node('b', 0)], { a: 2.5, b: 2.5 }],
    ['pending sessions count', [node('a', 3, { pending: 3 }), node('b', 0)], { a: 3, b: 3 }],
    [
      'a node below its share fills up, the others share the rest by weight',
      [node('a', 100, { maxSessions: 10 }), node('b', 0), node('c', 0, { weight: 2 })],
      { a: 10, b: 30, c: 60 },
    ],
    [
      'filling up may fill up the next',
      [node('a', 100, { maxSessions: 10 }), node('b', 0, { maxSessions: 40 }), node('c', 0)],
      { a: 10, b: 40, c: 50 },
    ],
    [
      'more than all capacities',
      [node('a', 100, { maxSessions: 10 }), node('b', 0, { maxSessions: 20 })],
      { a: 10, b: 20 },
    ],
    [
      'draining, unhealthy and weightless nodes have none',
      [
        node('a', 6),
        node('b', 2),
        node('c', 9, { active: false }),
        node('d', 9, { healthy: false }),
        node('e', 9, { weight: 0 }),
      ],
      { a: 4, b: 4 },
    ],
    ['an empty pool', [], {}],
    [
      'what a node keeps beyond its share is its share, the others divide the rest',
      [node('a', 90, { keepsSessions: true }), node('b', 10), node('c', 0, { weight: 4 })],
      { a: 90, b: 2, c: 8 },
    ],
    [
      'keeping may leave the next one with too many',
      [node('a', 60, { keepsSessions: true }), node('b', 30, { keepsSessions: true }), node('c', 0)],
      { a: 60, b: 30, c: 0 },
    ],
    [
      'a node that keeps its sessions and has room has its share',
      [node('a', 0, { keepsSessions: true }), node('b', 60), node('c', 30)],
      { a: 30, b: 30, c: 30 },
    ],
  ])('%s', (_, nodes, expected) => {
    expect(Object.fromEntries(fairShares(nodes))).toEqual(expected)
  })

  it('are the water level', () => {
    fc.assert(
      fc.property(busy, (nodes) => {
        const shares = fairShares(nodes)
        const expected = sharesByWaterLevel(nodes)
        expect([...shares.keys()].sort()).toEqual([...expected.keys()].sort())
        for (const [id, share] of expected) expect(Math.abs(shares.get(id)! - share)).toBeLessThan(noise)
      }),
      runs,
    )
  })
})

describe('imbalance', () => {
  test.each<[string, Candidate[], number]>([
    ['an even pool', [node('a', 10), node('b', 10)], 0],
    ['an empty node', [node('a', 100), node('b', 100), node('c', 0)], 1],
    ['twice the share', [node('a', 30, { weight: 1 }), node('b', 30, { weight: 3 })], 1],
    ['as even as whole sessions can be', [node('a', 4), node('b', 3), node('c', 3)], 0],
    ['more than one session from even', [node('a', 5), node('b', 3), node('c', 2)], 0.5],
    [
      'less than one session in all',
      [node('a', 3, { weight: 0.01 }), node('b', 0, { weight: 99.99 })],
      2.9997,
    ],
    ['a draining node does not matter', [node('a', 10), node('b', 10), node('c', 99, { active: false })], 0],
    ['nothing', [], 0],
  ])('%s', (_, nodes, expected) => {
    expect(imbalance(nodes)).toBeCloseTo(expected, 9)
  })
})

describe('plans', () => {
  test.each<[string, Candidate[], PlanOptions, [string, string, number][]]>([
    ['an even pool', [node('a', 10), node('b', 10)], {}, []],
    ['within tolerance', [node('a', 1_030), node('b', 970)], {}, []],
    ['only to the edge of tolerance', [node('a', 1_031), node('b', 969)], {}, [['a', 'b', 1]]],
    ['one session of tolerance at least', [node('a', 11), node('b', 9)], {}, []],
    [
      'a new node',
      [node('a', 500), node('b', 500), node('c', 0)],
      { tolerance: 0 },
      [
        ['a', 'c', 167],
        ['b', 'c', 166],
      ],
    ],
    [
      'extra partners are those farthest from fair',
      [node('a', 1_100), node('b', 990), node('c', 940), node('d', 970)],
      { tolerance: 0.08 },
      [['a', 'c', 20]],
    ],
    ['a raised weight', [node('a', 300, { weight: 2 }), node('b', 300)], { tolerance: 0 }, [['b', 'a', 99]]],
    ['over its maximum', [node('a', 12, { maxSessions: 10 }), node('b', 9)], {}, [['a', 'b', 2]]],
    [
      'over its maximum, the others nearly full',
      [node('a', 15, { maxSessions: 10 }), node('b', 8, { maxSessions: 10 })],
      {},
      [['a', 'b', 2]],
    ],
    [
      'a draining node neither gives nor takes',
      [node('a', 10), node('b', 10), node('c', 90, { active: false })],
      {},
      [],
    ],
    [
      'pending sessions stay where they are',
      [node('a', 3, { pending: 97 }), node('b', 0)],
      {},
      [['a', 'b', 3]],
    ],
    [
      'a bound keeps the most useful moves',
      [node('a', 200), node('b', 120), node('c', 0), node('d', 80)],
      { maxMoves: 30 },
      [['a', 'c', 30]],
    ],
    ['a bound of none', [node('a', 200), node('b', 0)], { maxMoves: 0 }, []],
    ['nodes that keep their sessions', [keeper('a', 90), keeper('b', 0), keeper('c', 3)], {}, []],
    ['a node that keeps its sessions gets some', [keeper('a', 0), node('b', 90)], {}, [['b', 'a', 44]]],
    [
      'beside a node that keeps too many, the others become even',
      [keeper('a', 900), node('b', 20), node('c', 0)],
      {},
      [['b', 'c', 9]],
    ],
    ['one node', [node('a', 10)], {}, []],
    ['no node', [], {}, []],
  ])('%s', (_, nodes, options, expected) => {
    const plan = planRebalance(nodes, options)
    expect(plan.moves.map(({ from, to, count }) => [from, to, count])).toEqual(expected)
    expect(plan.total).toBe(sum(expected.map(([, , count]) => count)))
  })

  it('says how even the pool is before and after', () => {
    const plan = planRebalance([node('a', 100), node('b', 0)])
    expect(plan).toEqual({
      moves: [{ from: 'a', to: 'b', count: 49 }],
      total: 49,
      imbalanceBefore: 1,
      imbalanceAfter: 0.02,
    })
  })

  it('does not count it as less even that a light node is given one session more than its share', () => {
    // The first is 1.17 sessions over its share of 20.8. Whoever takes one is then 0.67 over a share of 8.3.
    const nodes = [
      [5, 22],
      [1, 4],
      [2, 8],
      [2, 8],
      [2, 8],
    ].map(([weight, sessions], i) => node(`n${i}`, sessions!, { weight: weight! }))
    const plan = planRebalance(nodes)
    expect(plan.total).toBe(1)
    expect(plan.imbalanceBefore).toBeCloseTo(0.056, 9)
    expect(plan.imbalanceAfter).toBe(0)
  })

  it('handles a thousand nodes and a million sessions', () => {
    const nodes = Array.from({ length: 1_000 }, (_, i) =>
      node(`n${i}`, i < 500 ? 2_000 : 0, { weight: 1 + (i % 3) }),
    )
    const plan = planRebalance(nodes)
    expect(plan.total).toBe(lowerBound(bandsOf(nodes, 0.03)))
    expect(plan.moves.length).toBeLessThan(1_000)
    expect(plan.imbalanceAfter).toBeLessThanOrEqual(0.03)
    expect(planRebalance(apply(nodes, plan)).moves).toEqual([])
  })
})

describe('every plan', () => {
  it('conserves the sessions, and moves only what a node has', () => {
    fc.assert(
      fc.property(
        busy,
        tolerance,
        fc.option(maxMoves, { nil: Number.POSITIVE_INFINITY }),
        (nodes, tolerance, maxMoves) => {
          const plan = planRebalance(nodes, { tolerance, maxMoves })
          const after = apply(nodes, plan)
          expect(sum(after.map(load))).toBe(sum(nodes.map(load)))
          expect(sum(plan.moves.map(({ count }) => count))).toBe(plan.total)
          expect(plan.total).toBeLessThanOrEqual(maxMoves)
          for (const { from, to, count } of plan.moves) {
            expect(Number.isInteger(count) && count > 0).toBe(true)
            expect(from).not.toBe(to)
          }
          for (const one of after) expect(one.sessions).toBeGreaterThanOrEqual(0)
          const senders = new Set(plan.moves.map(({ from }) => from))
          for (const { to } of plan.moves) expect(senders).not.toContain(to)
        },
      ),
      runs,
    )
  })

  it('has the fewest moves and brings every node within tolerance', () => {
    fc.assert(
      fc.property(settled, tolerance, (nodes, tolerance) => {
        fc.pre(fits(nodes))
        const plan = planRebalance(nodes, { tolerance })
        expect(plan.total).toBe(lowerBound(bandsOf(nodes, tolerance)))
        for (const band of bandsOf(apply(nodes, plan), tolerance)) {
          expect(band.load).toBeLessThanOrEqual(band.upper)
          expect(band.load).toBeGreaterThanOrEqual(band.lower)
        }
      }),
      runs,
    )
  })

  it('fills all there is when the pool has less room than sessions', () => {
    fc.assert(
      fc.property(settled, tolerance, (nodes, tolerance) => {
        const capped = nodes.map((one) => ({
          ...one,
          maxSessions: one.maxSessions ?? Math.floor(one.sessions / 2),
        }))
        fc.pre(!fits(capped))
        const after = apply(capped, planRebalance(capped, { tolerance })).filter(takesPart)
        const short = bandsOf(capped, tolerance).some((band) => band.load > band.upper)
        if (short) for (const one of after) expect(load(one)).toBeGreaterThanOrEqual(capacity(one))
      }),
      runs,
    )
  })

  it('never leaves the pool less even, nor a node farther from its share than one session', () => {
    fc.assert(
      fc.property(
        busy,
        tolerance,
        fc.option(maxMoves, { nil: Number.POSITIVE_INFINITY }),
        (nodes, tolerance, maxMoves) => {
          const plan = planRebalance(nodes, { tolerance, maxMoves })
          const after = apply(nodes, plan)
          expect(plan.imbalanceBefore).toBe(imbalance(nodes))
          expect(plan.imbalanceAfter).toBe(imbalance(after))
          expect(plan.imbalanceAfter).toBeLessThanOrEqual(plan.imbalanceBefore)
          const shares = sharesByWaterLevel(nodes)
          nodes.filter(takesPart).forEach((one) => {
            const distance = (now: Candidate) => Math.abs(load(now) - shares.get(one.id)!)
            const now = after.find(({ id }) => id === one.id)!
            expect(distance(now)).toBeLessThanOrEqual(Math.max(distance(one), 1) + noise)
          })
        },
      ),
      runs,
    )
  })

  it('leaves nothing to plan, once done and while its sessions move', () => {
    fc.assert(
      fc.property(busy, tolerance, fc.boolean(), (nodes, tolerance, inFlight) => {
        const plan = planRebalance(nodes, { tolerance })
        expect(planRebalance(apply(nodes, plan, inFlight), { tolerance }).moves).toEqual([])
      }),
      runs,
    )
  })

  it('never involves a node that drains, is unhealthy or has no weight, nor overfills one', () => {
    fc.assert(
      fc.property(busy, tolerance, (nodes, tolerance) => {
        const plan = planRebalance(nodes, { tolerance })
        const after = new Map(apply(nodes, plan).map((one) => [one.id, one]))
        const byId = new Map(nodes.map((one) => [one.id, one]))
        for (const { from, to } of plan.moves) {
          expect(takesPart(byId.get(from)!)).toBe(true)
          expect(takesPart(byId.get(to)!)).toBe(true)
          expect(load(after.get(to)!)).toBeLessThanOrEqual(capacity(byId.get(to)!))
        }
      }),
      runs,
    )
  })

  it('cut short, needs as many moves in the end as the whole plan', () => {
    fc.assert(
      fc.property(settled, tolerance, maxMoves, (nodes, tolerance, maxMoves) => {
        const whole = planRebalance(nodes, { tolerance })
        const first = planRebalance(nodes, { tolerance, maxMoves })
        const rest = planRebalance(apply(nodes, first), { tolerance })
        expect(first.total).toBe(Math.min(whole.total, maxMoves))
        expect(first.total + rest.total).toBe(whole.total)
      }),
      runs,
    )
  })
})

describe('nodes that keep their sessions', () => {
  /** Some of the nodes, at random, keep theirs. */
  const mixed = fc
    .tuple(busy, fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }))
    .map(([nodes, keeps]) => nodes.map((one, i) => ({ ...one, keepsSessions: keeps[i]! })))

  it('give none, and leave nothing to plan and nobody less even', () => {
    fc.assert(
      fc.property(mixed, tolerance, fc.boolean(), (nodes, tolerance, inFlight) => {
        const plan = planRebalance(nodes, { tolerance })
        const keeping = new Set(nodes.filter((one) => one.keepsSessions).map(({ id }) => id))
        for (const { from } of plan.moves) expect(keeping).not.toContain(from)
        expect(plan.imbalanceAfter).toBeLessThanOrEqual(plan.imbalanceBefore)
        expect(planRebalance(apply(nodes, plan, inFlight), { tolerance }).moves).toEqual([])
      }),
      runs,
    )
  })

  it('and have too many are no part of the plan for the others', () => {
    fc.assert(
      fc.property(busy, tolerance, fc.integer({ min: 1, max: 5 }), (nodes, tolerance, weight) => {
        const lots = 10_000_000
        // Otherwise it is the only one that has room.
        const taking = nodes.filter(takesPart)
        fc.pre(sum(taking.map(load)) + 2 <= sum(taking.map(capacity)))
        const full = node('full', lots, { keepsSessions: true, weight: weight / 100 })
        const plan = planRebalance([...nodes, full], { tolerance })
        expect(plan.moves).toEqual(planRebalance(nodes, { tolerance }).moves)
      }),
      runs,
    )
  })
})

describe('small pools, against every possible outcome', () => {
  const small = fc
    .array(
      fc.record({
        weight: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.double({ min: 0.1, max: 9, noNaN: true })),
        sessions: fc.nat(7),
        pending: fc.constant(0),
        maxSessions: fc.oneof(fc.constant(null), fc.nat(9)),
        healthy: fc.constant(true),
        active: fc.constant(true),
      }),
      { minLength: 2, maxLength: 4 },
    )
    .map((nodes) => nodes.map((fields, i) => ({ id: `n${i}`, ...fields })))

  /** Every way to spread the load over the nodes with each node between its bounds. */
  function* outcomes(bounds: readonly [least: number, most: number][], total: number): Generator<number[]> {
    const [first, ...others] = bounds
    if (first === undefined) {
      if (total === 0) yield []
      return
    }
    for (let here = first[0]; here <= Math.min(first[1], total); here++) {
      for (const rest of outcomes(others, total - here)) yield [here, ...rest]
    }
  }
  const movesTo = (bands: readonly Band[], outcome: readonly number[]) =>
    sum(bands.map((band, i) => Math.max(0, outcome[i]! - band.load)))
  const unevenness = (bands: readonly Band[], outcome: readonly number[]) =>
    sum(bands.map((band, i) => (outcome[i]! - band.fair) ** 2 / Math.max(band.fair, 1)))

  it('no outcome within tolerance takes fewer moves', () => {
    fc.assert(
      fc.property(small, tolerance, (nodes, tolerance) => {
        fc.pre(fits(nodes))
        const bands = bandsOf(nodes, tolerance)
        const possible = [
          ...outcomes(
            bands.map(({ lower, upper }) => [lower, upper]),
            sum(nodes.map(load)),
          ),
        ]
        expect(possible.length).toBeGreaterThan(0)
        expect(planRebalance(nodes, { tolerance }).total).toBe(
          Math.min(...possible.map((one) => movesTo(bands, one))),
        )
      }),
      runs,
    )
  })

  it('no outcome with as few moves is more even, unless it takes a node past its whole share', () => {
    fc.assert(
      fc.property(small, tolerance, (nodes, tolerance) => {
        fc.pre(fits(nodes))
        const bands = bandsOf(nodes, tolerance)
        const plan = planRebalance(nodes, { tolerance })
        const reached = apply(nodes, plan).map(load)
        const bounds = bands.map(({ load, fair, lower, upper }): [number, number] => [
          Math.max(lower, Math.min(load, Math.floor(fair + noise))),
          Math.min(upper, Math.max(load, Math.ceil(fair - noise))),
        ])
        const best = [...outcomes(bounds, sum(reached))]
          .filter((one) => movesTo(bands, one) === plan.total)
          .map((one) => unevenness(bands, one))
        expect(unevenness(bands, reached)).toBeLessThanOrEqual(Math.min(...best) + noise)
      }),
      runs,
    )
  })
})
