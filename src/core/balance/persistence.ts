import { type Candidate, isEligible, load, participates } from './candidate.ts'

/** Where a client wants to be: at the node that it had, or at the one that its key (such as its address) always leads to. */
export type Wish = { readonly node: string } | { readonly key: string }

/** Below this many sessions over its share no node counts as overloaded, or few clients could never return. */
const slackSessions = 8

/**
 * The node that the client should get, or null when the policy is to decide: the node is not here, is drained, unhealthy or full, or the
 * session would take it beyond its fair share by more than `maxOverShare` of it.
 */
export function persistentNode(
  candidates: readonly Candidate[],
  wish: Wish,
  maxOverShare: number,
): Candidate | null {
  const fits = withinShare(candidates, maxOverShare)
  if ('node' in wish) {
    const wanted = candidates.find(({ id }) => id === wish.node)
    return wanted !== undefined && fits(wanted) ? wanted : null
  }
  let best: Candidate | null = null
  let bestScore = Number.NEGATIVE_INFINITY
  for (const candidate of candidates) {
    if (!fits(candidate)) continue
    const score = rendezvousScore(wish.key, candidate)
    if (score <= bestScore && best !== null) continue
    best = candidate
    bestScore = score
  }
  return best
}

/** The share by weight alone: what a full or an immovable node leaves to the others is no reason to send still more there. */
function withinShare(candidates: readonly Candidate[], maxOverShare: number): (one: Candidate) => boolean {
  let total = 1
  let weight = 0
  for (const one of candidates) {
    if (!participates(one)) continue
    total += load(one)
    weight += one.weight
  }
  return (one) => {
    if (!isEligible(one)) return false
    const fair = (total * one.weight) / weight
    return load(one) + 1 <= Math.max(fair * (1 + maxOverShare), fair + slackSessions)
  }
}

/**
 * Weighted rendezvous hashing: of all nodes the one with the highest score is it. Each node wins in proportion to its weight, and one
 * that comes or goes only takes its own clients with it.
 */
function rendezvousScore(key: string, { id, weight }: Candidate): number {
  return -weight / Math.log(uniform(`${key}\n${id}`))
}

/** 0 < u < 1, the same for the same text everywhere. */
function uniform(text: string): number {
  let high = 0x811c9dc5
  let low = 0x9e3779b9
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    high = Math.imul(high ^ unit, 0x01000193)
    low = Math.imul(low ^ unit, 0x85ebca6b)
  }
  const bits = (mixed(high ^ (low >>> 15)) >>> 6) * 2 ** 26 + (mixed(low ^ (high >>> 13)) >>> 6)
  return (bits + 0.5) / 2 ** 52
}

/** The finalizer of MurmurHash3: every bit of the input changes half of the output. */
function mixed(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
