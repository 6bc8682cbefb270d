import { describe, expect, test } from 'vitest'
import { forcedPart, partOf, type Split } from '../../../src/core/route/split.ts'
import { createRandom } from '../../support/random.ts'

const keys = Array.from({ length: 20_000 }, (_, i) => `client-${i}`)

function poolsOf(split: readonly Split[], seed?: string): (string | null)[] {
  return keys.map((key) => partOf(split, key, seed)?.pool ?? null)
}

function shareOf(pools: readonly (string | null)[], pool: string | null): number {
  return (100 * pools.filter((one) => one === pool).length) / pools.length
}

/** Who is elsewhere now, as `from → to`. */
function moves(before: readonly (string | null)[], after: readonly (string | null)[]): Set<string> {
  return new Set(before.flatMap((pool, i) => (pool === after[i] ? [] : [`${pool} → ${after[i]}`])))
}

const part = (pool: string, percent: number): Split => ({ pool, percent })

describe('a split', () => {
  test.each([
    [[part('b', 0)], [0]],
    [[part('b', 1)], [1]],
    [[part('b', 100)], [100]],
    [
      [part('b', 33.3), part('c', 33.3)],
      [33.3, 33.3],
    ],
    [
      [part('b', 10), part('c', 20), part('d', 30), part('e', 40)],
      [10, 20, 30, 40],
    ],
  ])('%j gives each its share', (split, shares) => {
    const pools = poolsOf(split)
    for (const [index, share] of shares.entries()) {
      // Four standard deviations.
      const tolerance = 4 * Math.sqrt((share * (100 - share)) / keys.length)
      expect(Math.abs(shareOf(pools, split[index]!.pool) - share)).toBeLessThanOrEqual(tolerance)
    }
  })

  test('is the same for a client always, and another with another seed', () => {
    const split = [part('b', 50)]
    expect(poolsOf(split)).toEqual(poolsOf(split))
    const both = poolsOf(split).filter((pool, i) => pool === 'b' && partOf(split, keys[i]!, 'other') !== null)
    expect(Math.abs((100 * both.length) / keys.length - 25)).toBeLessThan(2)
  })

  test('moves only clients of the share that was added or taken', () => {
    const five = poolsOf([part('b', 5)])
    const ten = poolsOf([part('b', 10)])
    expect(moves(five, ten)).toEqual(new Set(['null → b']))
    expect(moves(ten, five)).toEqual(new Set(['b → null']))
  })

  test('of two parts either changes without the other, whatever the shares are', () => {
    const seed = 20_261_127
    const random = createRandom(seed)
    for (let i = 0; i < 40; i++) {
      const [b, c] = [random.int(0, 50), random.int(0, 50)]
      const other = random.int(0, 50)
      expect(
        [...moves(poolsOf([part('b', b), part('c', c)]), poolsOf([part('b', other), part('c', c)]))].every(
          (move) => !move.includes('c'),
        ),
        `seed ${seed}: b ${b} → ${other}, c ${c}`,
      ).toBe(true)
      expect(
        [...moves(poolsOf([part('b', b), part('c', c)]), poolsOf([part('b', b), part('c', other)]))].every(
          (move) => !move.includes('b'),
        ),
        `seed ${seed}: c ${c} → ${other}, b ${b}`,
      ).toBe(true)
    }
  })
})

describe('who shows it is forced', () => {
  const split: Split[] = [
    { pool: 'b', percent: 0, force: { headers: { 'x-variant': 'b' }, cookies: { variant: 'b' } } },
    { pool: 'c', percent: 0, force: { query: { variant: 'c' } } },
  ]

  test.each([
    [{ headers: { 'x-variant': 'b' } }, 'b'],
    [{ headers: { cookie: 'variant=b' } }, 'b'],
    [{ query: 'variant=c' }, 'c'],
    [{ headers: { 'x-variant': 'a' } }, null],
    [{}, null],
  ])('%j: %s', (shown, pool) => {
    const request = { method: 'GET', query: '', headers: {}, claims: null, ...shown }
    expect(forcedPart(split, request)?.pool ?? null).toBe(pool)
  })
})
