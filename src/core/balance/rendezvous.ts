import type { Candidate } from './candidate.ts'

/**
 * Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005): of the candidates that fit, the one
 * with the highest score for the key. Each wins in proportion to its weight, and one that comes or goes only takes its own keys with it.
 */
export function firstByHash(
  candidates: readonly Candidate[],
  key: string,
  fits: (one: Candidate) => boolean,
): Candidate | null {
  const seed = seedOf(key)
  let best: Candidate | null = null
  let bestScore = Number.NEGATIVE_INFINITY
  for (const candidate of candidates) {
    if (!fits(candidate)) continue
    const score = -candidate.weight / Math.log(uniform(seed, seedOfId(candidate.id)))
    if (score <= bestScore && best !== null) continue
    best = candidate
    bestScore = score
  }
  return best
}

/** Where the key lies between 0 and 1: evenly spread over keys, the same everywhere, another with another seed. */
export function pointOf(key: string, seed: string): number {
  return uniform(seedOf(key), seedOf(seed))
}

interface Seed {
  readonly high: number
  readonly low: number
}

/** Ids come again with every key. */
const seeds = new Map<string, Seed>()
const seedsKept = 32_768

function seedOfId(id: string): Seed {
  let seed = seeds.get(id)
  if (seed === undefined) {
    if (seeds.size >= seedsKept) seeds.clear()
    seed = seedOf(id)
    seeds.set(id, seed)
  }
  return seed
}

/** FNV-1a, twice. */
function seedOf(text: string): Seed {
  let high = 0x811c9dc5
  let low = 0x9e3779b9
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    high = Math.imul(high ^ unit, 0x01000193)
    low = Math.imul(low ^ unit, 0x85ebca6b)
  }
  return { high: mixed(high ^ (low >>> 15)), low: mixed(low ^ (high >>> 13)) }
}

/** 0 < u < 1, the same for the same two texts everywhere. */
function uniform(key: Seed, id: Seed): number {
  const high = mixed(Math.imul(key.high, 0x9e3779b1) ^ id.low)
  const low = mixed(Math.imul(key.low, 0x85ebca77) ^ id.high)
  return ((high >>> 6) * 2 ** 26 + (low >>> 6) + 0.5) / 2 ** 52
}

/** The finalizer of MurmurHash3: every bit of the input changes half of the output. */
function mixed(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
