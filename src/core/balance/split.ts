import type { Move } from './planner.ts'

/**
 * Divides a plan for the whole cluster among the gateways that hold the sessions: each moves a part in proportion to what
 * it holds at the source, and never more than that. `held` gives the sessions of a node by gateway.
 */
export function splitMoves(
  moves: readonly Move[],
  held: (node: string) => ReadonlyMap<string, number>,
): Map<string, Move[]> {
  const parts = new Map<string, Move[]>()
  const left = new Map<string, Map<string, number>>()
  for (const { from, to, count } of moves) {
    let holders = left.get(from)
    if (holders === undefined) {
      holders = new Map(held(from))
      left.set(from, holders)
    }
    for (const [gateway, share] of apportion(count, holders)) {
      holders.set(gateway, holders.get(gateway)! - share)
      const part = parts.get(gateway)
      if (part === undefined) parts.set(gateway, [{ from, to, count: share }])
      else part.push({ from, to, count: share })
    }
  }
  return parts
}

/** Largest remainders (Hamilton's method): whole numbers in proportion to `holders`, summing to `count` or to all there is. */
function apportion(count: number, holders: ReadonlyMap<string, number>): [gateway: string, share: number][] {
  let total = 0
  for (const held of holders.values()) total += held
  if (total === 0) return []
  const wanted = Math.min(count, total)
  const shares = [...holders].map(([gateway, held]) => {
    const exact = (wanted * held) / total
    return { gateway, share: Math.floor(exact), rest: exact - Math.floor(exact) }
  })
  let missing = wanted - shares.reduce((sum, { share }) => sum + share, 0)
  for (const entry of shares.toSorted((a, b) => b.rest - a.rest || (a.gateway < b.gateway ? -1 : 1))) {
    if (missing === 0) break
    entry.share++
    missing--
  }
  return shares.filter(({ share }) => share > 0).map(({ gateway, share }) => [gateway, share])
}
