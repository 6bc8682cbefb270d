import { seededRandom } from '../../src/core/seeded-random.ts'

/** A seeded source of choices, so that a run that failed can be run again. */
export interface Random {
  /** 0 ≤ x < 1 */
  next(): number
  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number
  chance(probability: number): boolean
  /** Throws for an empty list. */
  pick<T>(items: readonly T[]): T
  /** `count` different items, or all when there are fewer, in random order. */
  sample<T>(items: readonly T[], count: number): T[]
}

export function createRandom(seed: number): Random {
  const next = seededRandom(seed)
  const int = (least: number, most: number) => least + Math.floor(next() * (most - least + 1))
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick(items) {
      if (items.length === 0) throw new RangeError('nothing to pick from')
      return items[int(0, items.length - 1)]!
    },
    sample(items, count) {
      const left = [...items]
      return Array.from({ length: Math.min(count, left.length) }, () => {
        const at = int(0, left.length - 1)
        const [item] = left.splice(at, 1)
        return item!
      })
    },
  }
}

/** The seed of this run: EVENKEEL_SEED, or a new one. Printed, because a failure is worth nothing without it. */
export function testSeed(title: string): number {
  const given = process.env.EVENKEEL_SEED
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given)
  console.log(`${title}: EVENKEEL_SEED=${seed}`)
  return seed
}
