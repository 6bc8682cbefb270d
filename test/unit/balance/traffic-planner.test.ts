import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import {
  type LoadedNode,
  type LoadedSession,
  planTraffic,
  type TrafficPlan,
} from '../../../src/core/balance/traffic-planner.ts'
import { node, sum } from './clusters.ts'

type Node = LoadedNode<LoadedSession>

function loaded(
  id: string,
  loads: readonly number[],
  fields: Parameters<typeof node>[2] = {},
  fixed = 0,
): Node {
  const sessions = loads.map((load) => ({ load }))
  return {
    candidate: node(id, loads.length, fields),
    load: sum(loads) + fixed,
    movable: () => sessions,
  }
}

function times(count: number, load: number): number[] {
  return new Array<number>(count).fill(load)
}

function apply(nodes: readonly Node[], plan: TrafficPlan<LoadedSession>): Node[] {
  const gone = new Set(plan.moves.map(({ session }) => session))
  return nodes.map(({ candidate, load, movable }) => {
    const come = plan.moves.filter(({ to }) => to === candidate.id).map(({ session }) => session)
    const left = plan.moves.filter(({ from }) => from === candidate.id).map(({ session }) => session)
    const stay = [...movable().filter((session) => !gone.has(session)), ...come]
    return {
      candidate: { ...candidate, sessions: candidate.sessions + come.length - left.length },
      load: load + sum(come.map((one) => one.load)) - sum(left.map((one) => one.load)),
      movable: () => stay,
    }
  })
}

function outside(nodes: readonly Node[], tolerance: number): number {
  const taking = nodes.filter(({ candidate: { active, healthy, weight } }) => active && healthy && weight > 0)
  const total = sum(taking.map(({ load }) => load))
  const weights = sum(taking.map(({ candidate }) => candidate.weight))
  return sum(
    taking.map(({ candidate, load }) => {
      const fair = (total * candidate.weight) / weights
      return Math.max(0, load - fair * (1 + tolerance)) + Math.max(0, fair * (1 - tolerance) - load)
    }),
  )
}

const cluster = fc
  .array(
    fc.record({
      loads: fc.array(fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 400 })), {
        maxLength: 12,
      }),
      weight: fc.integer({ min: 1, max: 4 }),
      fixed: fc.constantFrom(0, 0, 50),
      active: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
      keepsSessions: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      maxSessions: fc.constantFrom(null, null, 6, 20),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((nodes) => nodes.map(({ loads, fixed, ...fields }, i) => loaded(`n${i}`, loads, fields, fixed)))
const tolerances = fc.constantFrom(0, 0.05, 0.15, 0.5)

describe('a plan by load', () => {
  it('spreads ten hot sessions of one node with the fewest moves', () => {
    const cold = 20 / 390
    const nodes = [
      loaded('a', [...times(10, 8), ...times(90, cold)]),
      ...['b', 'c', 'd'].map((id) => loaded(id, times(100, cold))),
    ]
    const plan = planTraffic(nodes)
    // Seven hot ones have to leave, and eight cold ones make up for what cannot be divided.
    expect(plan.moves.length).toBe(15)
    expect(plan.imbalanceBefore).toBeGreaterThan(2)
    expect(plan.imbalanceAfter).toBeLessThanOrEqual(0.15)
  })

  test.each<[string, Node[], number]>([
    ['an even pool is left alone', [loaded('a', [5, 5]), loaded('b', [4, 6])], 0],
    ['one node has nobody to give to', [loaded('a', [9, 9])], 0],
    ['a pool without traffic', [loaded('a', [0, 0]), loaded('b', [0])], 0],
    ['a session that is hotter than a share is not passed around', [loaded('a', [100]), loaded('b', [])], 0],
    ['by weight', [loaded('a', times(9, 1)), loaded('b', [], { weight: 2 })], 6],
    [
      'one that keeps its sessions gives none',
      [loaded('a', times(9, 1), { keepsSessions: true }), loaded('b', [])],
      0,
    ],
    ['one that is full gets none', [loaded('a', times(9, 1)), loaded('b', [], { maxSessions: 0 })], 0],
    ['one that drains is no part of it', [loaded('a', times(9, 1)), loaded('b', [], { active: false })], 0],
    ['what other gateways hold counts and stays', [loaded('a', [2, 2], {}, 8), loaded('b', [], {}, 8)], 1],
  ])('%s', (_, nodes, moves) => {
    expect(planTraffic(nodes).moves.length).toBe(moves)
  })

  it('moves each session once, never more than asked, and leaves less outside of the bands with every move', () => {
    fc.assert(
      fc.property(cluster, tolerances, fc.nat(30), (nodes, tolerance, maxMoves) => {
        const plan = planTraffic(nodes, { tolerance, maxMoves })
        expect(plan.moves.length).toBeLessThanOrEqual(maxMoves)
        expect(new Set(plan.moves.map(({ session }) => session)).size).toBe(plan.moves.length)
        let before = outside(nodes, tolerance)
        for (let i = 1; i <= plan.moves.length; i++) {
          const left = outside(apply(nodes, { ...plan, moves: plan.moves.slice(0, i) }), tolerance)
          expect(left).toBeLessThan(before)
          before = left
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('plans nothing for its own result: no oscillation', () => {
    fc.assert(
      fc.property(cluster, tolerances, (nodes, tolerance) => {
        const after = apply(nodes, planTraffic(nodes, { tolerance }))
        // A session that has moved may move on in the next plan only where that leaves still less outside.
        const again = planTraffic(after, { tolerance })
        const left = outside(after, tolerance)
        if (left < 1e-6) expect(again.moves).toEqual([])
        else expect(outside(apply(after, again), tolerance)).toBeLessThanOrEqual(left)
      }),
      { numRuns: 2_000 },
    )
  })

  it('gives nothing to who cannot take it, and takes nothing from who keeps it', () => {
    fc.assert(
      fc.property(cluster, tolerances, (nodes, tolerance) => {
        const after = apply(nodes, planTraffic(nodes, { tolerance }))
        after.forEach(({ candidate }, i) => {
          const before = nodes[i]!.candidate
          const most = Math.max(before.sessions, before.maxSessions ?? Number.POSITIVE_INFINITY)
          expect(candidate.sessions).toBeLessThanOrEqual(most)
          if (!before.active) expect(candidate.sessions).toBe(before.sessions)
          if (before.keepsSessions === true)
            expect(candidate.sessions).toBeGreaterThanOrEqual(before.sessions)
        })
      }),
      { numRuns: 1_000 },
    )
  })
})
