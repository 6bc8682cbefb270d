import { type Candidate, participates, weightNow } from './candidate.ts'
import { Heap } from './heap.ts'

/** A session that may be moved, with the load that it makes. Units are the caller's: messages, bytes, milliseconds of a second. */
export interface LoadedSession {
  readonly load: number
}

export interface LoadedNode<S extends LoadedSession> {
  readonly candidate: Candidate
  /** What all its sessions make, those of other gateways and those that may not be moved included. */
  readonly load: number
  /** In any order. Asked only of nodes that have too much. */
  movable(): readonly S[]
}

export interface TrafficPlanOptions {
  /** How far from its fair share of the load a node may stay, as a part of it. Default 0.15. */
  tolerance?: number
  /** Most sessions to move. Default: no bound. */
  maxMoves?: number
  /** Sessions that make less than this part of what is outside of the bands stay: somebody else may have bigger ones to move. Default 0. */
  leastPart?: number
}

export interface TrafficMove<S extends LoadedSession> {
  readonly session: S
  readonly from: string
  readonly to: string
}

export interface TrafficPlan<S extends LoadedSession> {
  readonly moves: readonly TrafficMove<S>[]
  /** Largest `|load − fair| / fair` of a node. */
  readonly imbalanceBefore: number
  readonly imbalanceAfter: number
}

interface Place<S extends LoadedSession> {
  readonly id: string
  readonly fair: number
  readonly upper: number
  readonly lower: number
  readonly gives: boolean
  room: number
  load: number
  /** The lightest first; null until they are asked for. */
  sessions: S[] | null
  movable(): readonly S[]
}

/** Rounding must not make a move look useful. */
const epsilon = 1e-9

/**
 * Few moves that bring the load of every node within tolerance of its fair share by weight. Unlike sessions, loads cannot be divided at will: a hot
 * session goes whole or stays. So each step takes the one move that leaves the least load outside of the bands, from the node that is farthest above
 * its own to the one that is farthest below; big sessions go first by themselves, small ones fill what is left. It ends when no move helps,
 * so planning its own result plans nothing.
 */
export function planTraffic<S extends LoadedSession>(
  nodes: readonly LoadedNode<S>[],
  options: TrafficPlanOptions = {},
): TrafficPlan<S> {
  const { tolerance = 0.15, maxMoves = Number.POSITIVE_INFINITY, leastPart = 0 } = options
  const places = placesOf(nodes, tolerance)
  const imbalanceBefore = largestDistance(places)
  const moves: TrafficMove<S>[] = []
  const order = new Order(places)
  while (moves.length < maxMoves) {
    const step = order.next(leastPart)
    if (step === null) break
    const { from, to, index } = step
    const [session] = from.sessions!.splice(index, 1)
    order.move(from, to, session!.load)
    // It is not moved twice: where it has gone it is not offered.
    moves.push({ session: session!, from: from.id, to: to.id })
  }
  return { moves, imbalanceBefore, imbalanceAfter: largestDistance(places) }
}

function placesOf<S extends LoadedSession>(nodes: readonly LoadedNode<S>[], tolerance: number): Place<S>[] {
  const taking = nodes.filter(({ candidate }) => participates(candidate))
  let load = 0
  let weight = 0
  for (const node of taking) {
    load += node.load
    weight += weightNow(node.candidate)
  }
  return taking.map((node) => {
    const { candidate } = node
    const fair = (load * weightNow(candidate)) / weight
    const { maxSessions, sessions, pending } = candidate
    return {
      id: candidate.id,
      fair,
      upper: fair * (1 + tolerance),
      lower: fair * (1 - tolerance),
      gives: candidate.keepsSessions !== true,
      room: maxSessions === null ? Number.POSITIVE_INFINITY : maxSessions - sessions - pending,
      load: node.load,
      sessions: null,
      movable: () => node.movable(),
    }
  })
}

interface Step<S extends LoadedSession> {
  readonly from: Place<S>
  readonly to: Place<S>
  /** In `from.sessions`. */
  readonly index: number
}

/** Knows at each step who is farthest above and farthest below, among thousands. */
class Order<S extends LoadedSession> {
  /** The lowest first; only those that have room. */
  private readonly takers = new Heap<Place<S>>(isBelow)
  /** The highest first. */
  private readonly givers = new Heap<Place<S>>((one, other) => isBelow(other, one))
  private outside = 0

  constructor(places: readonly Place<S>[]) {
    for (const place of places) {
      if (isOutside(place)) this.outside++
      this.sort(place)
    }
  }

  /** The move that helps most, or null when none does. */
  next(leastPart: number): Step<S> | null {
    const to = this.takers.first
    if (this.outside === 0 || to === undefined) return null
    // The one farthest above may have nothing that fits; the next one may.
    const passed: Place<S>[] = []
    let step: Step<S> | null = null
    for (;;) {
      const from = this.givers.first
      if (from === undefined) break
      const index = from === to ? null : bestSession(from, to, leastPart)
      if (index !== null) {
        step = { from, to, index }
        break
      }
      passed.push(from)
      this.givers.delete(from)
    }
    for (const place of passed) this.givers.set(place)
    return step
  }

  move(from: Place<S>, to: Place<S>, load: number): void {
    for (const place of [from, to]) if (isOutside(place)) this.outside--
    from.load -= load
    to.load += load
    from.room++
    to.room--
    for (const place of [from, to]) {
      if (isOutside(place)) this.outside++
      this.sort(place)
    }
  }

  private sort(place: Place<S>): void {
    if (place.room > 0) this.takers.set(place)
    else this.takers.delete(place)
    if (place.gives && place.load > place.fair + epsilon) this.givers.set(place)
    else this.givers.delete(place)
  }
}

function isOutside(place: Place<LoadedSession>): boolean {
  return violation(place, place.load) > epsilon
}

/** Relative to their shares. */
function isBelow(one: Place<LoadedSession>, other: Place<LoadedSession>): boolean {
  return one.load * other.fair < other.load * one.fair
}

/** The session whose move leaves the least outside of both bands, and of equals the one that leaves both nearest to fair. */
function bestSession<S extends LoadedSession>(
  from: Place<S>,
  to: Place<S>,
  leastPart: number,
): number | null {
  const before = violation(from, from.load) + violation(to, to.load)
  if (before <= epsilon) return null
  from.sessions ??= byLoad(from.movable())
  const { sessions } = from
  const smallest = firstAtLeast(sessions, leastPart * before)
  let best: number | null = null
  let bestLeft = before
  let bestDistance = Number.POSITIVE_INFINITY
  // What is left outside changes its slope at these amounts alone, so the best session is next to one of them.
  const bends = [
    from.load - from.upper,
    from.load - from.fair,
    from.load - from.lower,
    to.lower - to.load,
    to.fair - to.load,
    to.upper - to.load,
  ]
  for (const bend of bends) {
    const above = firstAtLeast(sessions, bend)
    for (const near of [above - 1, above]) {
      const index = Math.max(near, smallest)
      const load = sessions[index]?.load
      if (load === undefined) continue
      const left = violation(from, from.load - load) + violation(to, to.load + load)
      const distance = Math.abs(from.load - load - from.fair) + Math.abs(to.load + load - to.fair)
      const helps = left < before - epsilon
      const isBetter = left < bestLeft - epsilon || (left <= bestLeft + epsilon && distance < bestDistance)
      if (!helps || !isBetter) continue
      best = index
      bestLeft = left
      bestDistance = distance
    }
  }
  return best
}

/** How much of the load is outside of the node's band. */
function violation(place: Place<LoadedSession>, load: number): number {
  return Math.max(0, load - place.upper) + Math.max(0, place.lower - load)
}

/**
 * Those that make any load, the lightest first. Numbers are sorted many times faster than objects, so each load becomes one with the session's place in its last
 * digits: a million sessions are sorted within the time that a plan may take.
 */
function byLoad<S extends LoadedSession>(sessions: readonly S[]): S[] {
  if (sessions.length > placesMax)
    return sessions.filter(({ load }) => load > 0).sort((a, b) => a.load - b.load)
  let heaviest = 0
  for (const { load } of sessions) heaviest = Math.max(heaviest, load)
  const keys = new Float64Array(sessions.length)
  let count = 0
  for (let i = 0; i < sessions.length; i++) {
    const { load } = sessions[i]!
    if (load > 0) keys[count++] = Math.floor((load / heaviest) * loadSteps) * placesMax + i
  }
  const sorted: S[] = []
  for (const key of keys.subarray(0, count).sort())
    sorted.push(sessions[key - Math.floor(key / placesMax) * placesMax]!)
  return sorted
}

/** Both together fit the 53 bits of a number. */
const placesMax = 2 ** 21
const loadSteps = 2 ** 32 - 1

function firstAtLeast(sessions: readonly LoadedSession[], load: number): number {
  let low = 0
  let high = sessions.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sessions[middle]!.load < load) low = middle + 1
    else high = middle
  }
  return low
}

function largestDistance(places: readonly Place<LoadedSession>[]): number {
  let largest = 0
  for (const { load, fair } of places) if (fair > 0) largest = Math.max(largest, Math.abs(load - fair) / fair)
  return largest
}
