import { type Candidate, isEligible, load, participates, weightNow } from './candidate.ts'
import { firstByHash } from './rendezvous.ts'

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
  return firstByHash(candidates, wish.key, fits)
}

/** The share by weight alone: what a full or an immovable node leaves to the others is no reason to send still more there. */
function withinShare(candidates: readonly Candidate[], maxOverShare: number): (one: Candidate) => boolean {
  let total = 1
  let weight = 0
  for (const one of candidates) {
    if (!participates(one)) continue
    total += load(one)
    weight += weightNow(one)
  }
  return (one) => {
    if (!isEligible(one)) return false
    const fair = (total * weightNow(one)) / weight
    return load(one) + 1 <= Math.max(fair * (1 + maxOverShare), fair + slackSessions)
  }
}
