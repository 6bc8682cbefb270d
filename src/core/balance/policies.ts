import { type Candidate, isEligible, load, participates, weightNow } from './candidate.ts'
import { firstByHash } from './rendezvous.ts'

export interface PickContext {
  /** Uniform, 0 ≤ r < 1. */
  random(): number
  /** What the session is known by, for the policies that hash it. Absent: any node will do. */
  readonly key?: string
}

/** Chooses the node of a new session. May keep state between picks: one policy object per pool. */
export interface Policy {
  /** Returns null when no candidate is eligible. The order of the candidates does not matter. */
  pick(candidates: readonly Candidate[], context: PickContext): Candidate | null
}

/** A node hashed to may have so much more than its share by weight (bounded loads: Mirrokni, Thorup, Zadimoghaddam 2018). */
const boundedLoad = 1.25

/** The lowest score wins; `scoreOf` is asked once for each pick. */
function least(scoreOf: (candidates: readonly Candidate[]) => (one: Candidate) => number): () => Policy {
  return () => ({
    pick(candidates, context) {
      const score = scoreOf(candidates)
      let best: Candidate | null = null
      let lowest = Number.POSITIVE_INFINITY
      let ties = 0
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        const its = score(candidate)
        if (its > lowest) continue
        ties = its < lowest ? 1 : ties + 1
        // Drawing lots also keeps gateways that share a snapshot from all choosing the same node.
        if (ties === 1 || context.random() * ties < 1) best = candidate
        lowest = its
      }
      return best
    },
  })
}

/** With one session more, relative to the weight. */
function crowding(one: Candidate): number {
  return (load(one) + 1) / weightNow(one)
}

/** What a message would wait for: one that answers in twice the time counts as one with twice the sessions. */
function expectedWait(candidates: readonly Candidate[]): (one: Candidate) => number {
  let known = 0
  let sum = 0
  for (const { responseMs } of candidates) {
    if (responseMs === undefined) continue
    known++
    sum += responseMs
  }
  // Who has not answered yet counts as an average one: neither shunned nor flooded.
  const average = known === 0 ? 1 : sum / known
  const fastestMs = 0.01
  return (one) => Math.max(one.responseMs ?? average, fastestMs) * crowding(one)
}

/** What was measured, and what those will send that came since, if they are as the others. */
function expectedBandwidth(candidates: readonly Candidate[]): (one: Candidate) => number {
  let sessions = 0
  let bytes = 0
  for (const one of candidates) {
    sessions += load(one) - (one.unmeasured ?? 0)
    bytes += one.bytesPerSecond ?? 0
  }
  // Without any traffic yet, sessions are all there is to count.
  const each = bytes > 0 && sessions > 0 ? bytes / sessions : 1
  return (one) => ((one.bytesPerSecond ?? 0) + ((one.unmeasured ?? 0) + 1) * each) / weightNow(one)
}

/** One each in turn, whatever the weights. */
function roundRobin(): Policy {
  // Turns go by id, not by position, so nobody is skipped or served twice when the list changes or is reordered.
  let last: string | null = null
  return {
    pick(candidates) {
      let first: Candidate | null = null
      let next: Candidate | null = null
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        if (first === null || candidate.id < first.id) first = candidate
        if (last !== null && candidate.id <= last) continue
        if (next === null || candidate.id < next.id) next = candidate
      }
      const picked = next ?? first
      if (picked !== null) last = picked.id
      return picked
    },
  }
}

/** In turn by weight, and evenly mixed: 5, 1, 1 gives a a b a c a a, not five in a row (the algorithm of nginx). */
function smoothWeightedRoundRobin(): Policy {
  const credits = new Map<string, number>()
  return {
    pick(candidates) {
      let best: Candidate | null = null
      let most = Number.NEGATIVE_INFINITY
      let total = 0
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        const weight = weightNow(candidate)
        const credit = (credits.get(candidate.id) ?? 0) + weight
        credits.set(candidate.id, credit)
        total += weight
        if (credit < most || (credit === most && best !== null && best.id < candidate.id)) continue
        best = candidate
        most = credit
      }
      if (best !== null) credits.set(best.id, most - total)
      if (credits.size > 2 * candidates.length) forget(credits, candidates)
      return best
    },
  }
}

function forget(credits: Map<string, number>, candidates: readonly Candidate[]): void {
  const here = new Set(candidates.map(({ id }) => id))
  for (const id of credits.keys()) if (!here.has(id)) credits.delete(id)
}

/** Each node with a probability in proportion to its weight. */
function weightedRandom(): Policy {
  return {
    pick(candidates, context) {
      let picked: Candidate | null = null
      let sum = 0
      // Reservoir sampling: the sum of the eligible weights need not be known beforehand.
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        const weight = weightNow(candidate)
        sum += weight
        if (picked === null || context.random() * sum < weight) picked = candidate
      }
      return picked
    },
  }
}

/**
 * The less crowded of two that are drawn (Mitzenmacher 2001): nearly as even as asking all, in constant time, and gateways with an old
 * view do not all choose the same. Weights decide between the two, not which two.
 */
function powerOfTwoChoices(): Policy {
  const tries = 8
  const draw = (candidates: readonly Candidate[], context: PickContext, not: Candidate | null) => {
    for (let i = 0; i < tries; i++) {
      const drawn = candidates[Math.floor(context.random() * candidates.length)]!
      if (drawn !== not && isEligible(drawn)) return drawn
    }
    // Hardly any is eligible, or there is only one: all are looked at.
    const eligible = candidates.filter((one) => one !== not && isEligible(one))
    return eligible[Math.floor(context.random() * eligible.length)] ?? null
  }
  return {
    pick(candidates, context) {
      if (candidates.length === 0) return null
      const one = draw(candidates, context, null)
      if (one === null) return null
      const other = draw(candidates, context, one)
      return other !== null && crowding(other) < crowding(one) ? other : one
    },
  }
}

/**
 * The same key leads to the same node, unless that has a quarter more than its share by weight: then to the next in the order of the key.
 * Sessions placed so are not rebalanced.
 */
function consistentHash(): Policy {
  return {
    pick(candidates, context) {
      let total = 1
      let weights = 0
      for (const one of candidates) {
        if (!participates(one)) continue
        total += load(one)
        weights += one.weight
      }
      const withinBound = (one: Candidate) =>
        isEligible(one) && load(one) < Math.ceil((boundedLoad * total * one.weight) / weights)
      const key = context.key ?? String(context.random())
      return firstByHash(candidates, key, withinBound) ?? firstByHash(candidates, key, isEligible)
    },
  }
}

/** Every balancing policy by its name in the configuration. A new policy is one more entry. */
export const policies = {
  'weighted-least-connections': least(() => crowding),
  'least-connections': least(() => load),
  'round-robin': roundRobin,
  'smooth-weighted-round-robin': smoothWeightedRoundRobin,
  'ip-hash': consistentHash,
  'key-hash': consistentHash,
  'least-response-time': least(expectedWait),
  'least-bandwidth': least(expectedBandwidth),
  random: weightedRandom,
  'power-of-two-choices': powerOfTwoChoices,
} satisfies Record<string, () => Policy>

export type PolicyName = keyof typeof policies

/** The policy of a route that names none. */
export const defaultPolicy: PolicyName = 'weighted-least-connections'

export function isPolicyName(value: unknown): value is PolicyName {
  return typeof value === 'string' && Object.hasOwn(policies, value)
}

/** Sessions that were placed by a key stay where it leads; moving them would undo what the policy is for. */
export function placesByKey(policy: PolicyName): boolean {
  return policies[policy] === consistentHash
}
