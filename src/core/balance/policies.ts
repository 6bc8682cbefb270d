import { type Candidate, isEligible, load } from './candidate.ts'

export interface PickContext {
  /** Uniform, 0 ≤ r < 1. */
  random(): number
}

/** Chooses the node of a new session. May keep state between picks: one policy object per pool. */
export interface Policy {
  /** Returns null when no candidate is eligible. The order of the candidates does not matter. */
  pick(candidates: readonly Candidate[], context: PickContext): Candidate | null
}

/** Lowest `(load + 1) / weight`. */
function weightedLeastConnections(): Policy {
  return {
    pick(candidates, context) {
      let best: Candidate | null = null
      let bestScore = Number.POSITIVE_INFINITY
      let ties = 0
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        const score = (load(candidate) + 1) / candidate.weight
        if (score > bestScore) continue
        ties = score < bestScore ? 1 : ties + 1
        // Drawing lots also keeps gateways that share a snapshot from all choosing the same node.
        if (ties === 1 || context.random() * ties < 1) best = candidate
        bestScore = score
      }
      return best
    },
  }
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

/** Each node with a probability in proportion to its weight. */
function weightedRandom(): Policy {
  return {
    pick(candidates, context) {
      let picked: Candidate | null = null
      let weight = 0
      // Reservoir sampling: the sum of the eligible weights need not be known beforehand.
      for (const candidate of candidates) {
        if (!isEligible(candidate)) continue
        weight += candidate.weight
        if (picked === null || context.random() * weight < candidate.weight) picked = candidate
      }
      return picked
    },
  }
}

/** Every balancing policy by its name in the configuration. A new policy is one more entry. */
export const policies = {
  'weighted-least-connections': weightedLeastConnections,
  'round-robin': roundRobin,
  random: weightedRandom,
} satisfies Record<string, () => Policy>

export type PolicyName = keyof typeof policies

/** The policy of a route that names none. */
export const defaultPolicy: PolicyName = 'weighted-least-connections'

export function isPolicyName(value: unknown): value is PolicyName {
  return typeof value === 'string' && Object.hasOwn(policies, value)
}
