import fc from 'fast-check'
import { expect, test } from 'vitest'
import { splitMoves } from '../../../src/core/balance/split.ts'

const nodes = ['a', 'b', 'c']
const move = fc.record({ from: fc.constantFrom(...nodes), to: fc.constant('z'), count: fc.nat(1_000) })
const holders = fc.dictionary(fc.constantFrom('g1', 'g2', 'g3', 'g4'), fc.nat(500))

test('parts sum to the plan, as far as there are sessions, and no gateway moves more than it holds', () => {
  fc.assert(
    fc.property(
      fc.array(move, { maxLength: 6 }),
      fc.record({ a: holders, b: holders, c: holders }),
      (moves, held) => {
        const heldBy = (node: string) => new Map(Object.entries(held[node as 'a']))
        const parts = splitMoves(moves, heldBy)
        for (const node of nodes) {
          const there = Object.values(held[node as 'a']).reduce((sum, count) => sum + count, 0)
          const planned = moves.filter(({ from }) => from === node).reduce((sum, { count }) => sum + count, 0)
          let moved = 0
          for (const [gateway, part] of parts) {
            const own = part.filter(({ from }) => from === node).reduce((sum, { count }) => sum + count, 0)
            expect(own).toBeLessThanOrEqual(heldBy(node).get(gateway) ?? 0)
            moved += own
          }
          expect(moved).toBe(Math.min(planned, there))
        }
      },
    ),
    { numRuns: 2_000 },
  )
})

test('each gateway moves in proportion to what it holds', () => {
  const parts = splitMoves(
    [{ from: 'a', to: 'b', count: 10 }],
    () =>
      new Map([
        ['g1', 300],
        ['g2', 100],
        ['g3', 0],
      ]),
  )
  expect(Object.fromEntries(parts)).toEqual({
    g1: [{ from: 'a', to: 'b', count: 8 }],
    g2: [{ from: 'a', to: 'b', count: 2 }],
  })
})
