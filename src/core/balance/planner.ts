import { type Candidate, load, participates, weightNow } from './candidate.ts'

export interface PlanOptions {
  /** How far from its fair share a node may stay, as a part of it, and never less than one session. Default 0.03. */
  tolerance?: number
  /** Most sessions to move; the most useful moves are kept. Default: no bound. */
  maxMoves?: number
}

/** `count` sessions, above 0, from one node to another. */
export interface Move {
  from: string
  to: string
  count: number
}

export interface RebalancePlan {
  /** Largest first. */
  moves: Move[]
  /** Sessions moved. */
  total: number
  imbalanceBefore: number
  /** What `imbalance` will say once all moves are done. Never above `imbalanceBefore`. */
  imbalanceAfter: number
}

/** Rounding errors must not push a node over the edge of its band: a share this near to a whole number is one. */
const epsilon = 1e-9

/** A participating node with its fair share, in sessions. */
interface Share {
  node: Candidate
  load: number
  capacity: number
  fair: number
}

/** What a node gives, or what it takes, in sessions. */
interface Side {
  id: string
  /** Distance to the fair share in this direction; negative beyond it. */
  gap: number
  /** What a gap is relative to. */
  scale: number
  /** To come within tolerance. */
  must: number
  /** To reach the whole share next to the fair share. At least `must`. */
  may: number
  count: number
}

/**
 * The fewest moves that bring every node of one pool within tolerance of its fair share, that is
 * `|load − fair| ≤ max(1, tolerance · fair)` and not above `maxSessions`.
 *
 * Only active, healthy nodes with a weight give or take, and those that keep their sessions only take. Among equally few moves the most even result is planned.
 * The result of a plan needs no moves. Pending sessions are load but stay where they are, so while many are pending
 * a plan may fall short of the tolerance; a session that is migrating must be counted on one node only.
 */
export function planRebalance(nodes: readonly Candidate[], options: PlanOptions = {}): RebalancePlan {
  const { tolerance = 0.03, maxMoves = Number.POSITIVE_INFINITY } = options
  const shares = computeShares(nodes)
  const givers = shares.map((share) => giverOf(share, tolerance))
  const takers = shares.map((share) => takerOf(share, tolerance))
  const needed = Math.max(sum(givers, mustOf), sum(takers, mustOf))
  const possible = Math.min(sum(givers, mayOf), sum(takers, mayOf), Math.max(0, Math.floor(maxMoves)))
  const total = Math.min(needed, possible)
  allot(givers, total)
  allot(takers, total)

  const imbalanceBefore = largestDistance(shares)
  shares.forEach((share, i) => {
    share.load += takers[i]!.count - givers[i]!.count
  })
  return { moves: pair(givers, takers), total, imbalanceBefore, imbalanceAfter: largestDistance(shares) }
}

/**
 * Fair share of every active, healthy node with a weight, by id, in sessions (not whole): the pool's load by weight,
 * where a node takes no more than its `maxSessions` and the others share the rest. When even all capacities are less
 * than the load, every share is the node's capacity. What a node that keeps its sessions has too many of is its share:
 * nobody else will get it.
 */
export function fairShares(nodes: readonly Candidate[]): Map<string, number> {
  return new Map(computeShares(nodes).map((share) => [share.node.id, share.fair]))
}

/**
 * Largest relative distance of a node from its fair share, `|load − fair| / max(fair, 1)`: 0 is even, 1 is a node with
 * nothing or with twice its share. A distance below one session counts as 0, because no move can mend it.
 */
export function imbalance(nodes: readonly Candidate[]): number {
  return largestDistance(computeShares(nodes))
}

function computeShares(nodes: readonly Candidate[]): Share[] {
  const shares = nodes.filter(participates).map((node) => ({
    node,
    load: load(node),
    capacity:
      node.maxSessions === null ? Number.POSITIVE_INFINITY : Math.max(0, Math.floor(node.maxSessions)),
    fair: 0,
  }))
  const kept: Share[] = []
  let rest: Share[] = shares
  // Each one that keeps too many lowers what is left for the others, so more may turn out to have too many; never fewer.
  for (;;) {
    divide(rest)
    // Less than one session too many is a share rounded up, which a plan itself may have made.
    const over = rest.filter(
      ({ node, load, fair }) => node.keepsSessions === true && load - fair >= 1 - epsilon,
    )
    if (over.length === 0) return [...rest, ...kept]
    for (const share of over) share.fair = share.load
    kept.push(...over)
    rest = rest.filter((share) => !over.includes(share))
  }
}

/** Divides what the nodes have among them by weight, up to their capacities. */
function divide(shares: Share[]): void {
  // The nodes that fill up first come first: from the first that does not fill up on, none does.
  shares.sort((a, b) => compare(a.capacity / weightNow(a.node), b.capacity / weightNow(b.node)))

  // Summed from the end rather than subtracted from the front: a heavy node must not wipe out the light ones' digits.
  const weightFrom = new Float64Array(shares.length + 1)
  for (let i = shares.length - 1; i >= 0; i--) weightFrom[i] = weightFrom[i + 1]! + weightNow(shares[i]!.node)

  let rest = sum(shares, (share) => share.load)
  let weight = weightFrom[0]!
  shares.forEach((share, i) => {
    share.fair = (rest * weightNow(share.node)) / weight
    if (share.fair <= share.capacity) return
    share.fair = share.capacity
    rest -= share.capacity
    weight = weightFrom[i + 1]!
  })
}

function giverOf({ node, load, capacity, fair }: Share, tolerance: number): Side {
  const upper = Math.min(Math.floor(fair + slack(fair, tolerance)), capacity)
  const movable = node.keepsSessions === true ? 0 : node.sessions
  return {
    id: node.id,
    gap: load - fair,
    scale: Math.max(fair, 1),
    must: clamp(load - upper, 0, movable),
    may: clamp(load - Math.floor(fair + epsilon), 0, movable),
    count: 0,
  }
}

function takerOf({ node, load, fair }: Share, tolerance: number): Side {
  const lower = Math.ceil(fair - slack(fair, tolerance))
  return {
    id: node.id,
    gap: fair - load,
    scale: Math.max(fair, 1),
    must: Math.max(0, lower - load),
    may: Math.max(0, Math.ceil(fair - epsilon) - load),
    count: 0,
  }
}

function slack(fair: number, tolerance: number): number {
  return Math.max(1, tolerance * fair) + epsilon
}

/**
 * Sets the counts of one side, `total` in all and no more than all may. What must move comes first; of each kind those
 * farthest from fair, so that the sum of `(load − fair)² / scale` becomes the lowest possible.
 */
function allot(sides: readonly Side[], total: number): void {
  const all = total >= sum(sides, mustOf)
  const countAt = (side: Side, level: number): number => {
    // One more session lowers that sum in proportion to (gap − count − ½) / scale: take it while this is above the level.
    const count = Math.floor(side.gap + 0.5 - level * side.scale)
    return all ? clamp(count, side.must, side.may) : clamp(count, 0, side.must)
  }
  let low = -1
  let high = sides.reduce((highest, side) => Math.max(highest, side.gap / side.scale), 0) + 1
  // At `low` the sides take at least the total, at `high` at most. 64 halvings leave only exact ties between the two.
  for (let i = 0; i < 64; i++) {
    const middle = (low + high) / 2
    if (sum(sides, (side) => countAt(side, middle)) > total) low = middle
    else high = middle
  }
  let left = total - sum(sides, (side) => countAt(side, high))
  for (const side of sides) {
    const atHigh = countAt(side, high)
    const extra = Math.min(left, countAt(side, low) - atHigh)
    side.count = atHigh + extra
    left -= extra
  }
}

function pair(givers: readonly Side[], takers: readonly Side[]): Move[] {
  const from = byCount(givers)
  const to = byCount(takers)
  const moves: Move[] = []
  for (let g = 0, t = 0; g < from.length && t < to.length; ) {
    const giver = from[g]!
    const taker = to[t]!
    const count = Math.min(giver.left, taker.left)
    moves.push({ from: giver.id, to: taker.id, count })
    giver.left -= count
    taker.left -= count
    if (giver.left === 0) g++
    if (taker.left === 0) t++
  }
  return moves.sort((a, b) => b.count - a.count)
}

function byCount(sides: readonly Side[]): { id: string; left: number }[] {
  return sides
    .filter((side) => side.count > 0)
    .map((side) => ({ id: side.id, left: side.count }))
    .sort((a, b) => b.left - a.left)
}

function largestDistance(shares: readonly Share[]): number {
  return shares.reduce((largest, { load, fair }) => {
    const distance = Math.abs(load - fair)
    return distance < 1 - epsilon ? largest : Math.max(largest, distance / Math.max(fair, 1))
  }, 0)
}

function mustOf(side: Side): number {
  return side.must
}

function mayOf(side: Side): number {
  return side.may
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  let total = 0
  for (const item of items) total += value(item)
  return total
}

/** Unlike a difference, right for two infinities. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most)
}
