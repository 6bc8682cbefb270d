import type { Candidate } from './candidate.ts'
import { type PlanOptions, planRebalance, type RebalancePlan } from './planner.ts'
import { pointOf } from './rendezvous.ts'

/**
 * `watching`: the share is at the new version, and its errors are compared. `passed`: so it stays. `returning`, `returned`: the version gets
 * no session. `promoted`: the pool has no canary any more. `ended`: another canary of the pool has taken its place.
 */
export const canaryStates = ['watching', 'passed', 'returning', 'returned', 'promoted', 'ended'] as const
export type CanaryState = (typeof canaryStates)[number]

/** A canary of live sessions, as gateways and nodes keep it. */
export interface Canary {
  readonly id: string
  readonly pool: string
  readonly version: string
  /** The part of the pool's sessions that belongs to the version, 0 to 1. While it is returned that is none, whatever this says. */
  readonly share: number
  readonly state: CanaryState
  /** Grows with each change: of two the higher one holds. */
  readonly revision: number
  /** Who judges it, while that gateway is there. */
  readonly gateway: string
  /** Unix times in ms. */
  readonly startedAt: number
  readonly watchFrom: number
  readonly changedAt: number
  readonly watchMs: number
  readonly maxErrorRatio: number
  readonly maxTimeRatio: number
  readonly minSessions: number
  /** Why it is in this state, for operators. */
  readonly reason: string
}

export const canaryLimits = {
  percent: { least: 0.1, most: 50 },
  watchMs: { least: 1_000, most: 7 * 24 * 60 * 60 * 1_000 },
  ratio: { least: 1, most: 1_000 },
  minSessions: { least: 1, most: 1_000_000 },
  reasonCharacters: 200,
} as const

/** The canary still says where sessions of its pool belong. */
export function rules({ state }: Canary): boolean {
  return state !== 'promoted' && state !== 'ended'
}

export function shareNow({ state, share }: Canary): number {
  return state === 'returning' || state === 'returned' ? 0 : share
}

/**
 * Whether the session belongs to the canary's version: the same answer at every gateway and at any time, and a higher share only adds sessions.
 * Each canary draws others.
 */
export function isDrawn(canary: Canary, session: string): boolean {
  const share = shareNow(canary)
  return share > 0 && pointOf(session, canary.id) < share
}

/** More than these would hold up a gateway with many sessions. */
const drawsMost = 200_000
const idsMost = 16

/**
 * An id for a canary with this share. Chance draws a hundred of 10,000 give or take ten; of several ids the one is taken that comes closest among the sessions
 * that are there. Which sessions those are is still chance.
 */
export function closestId(sessions: readonly string[], share: number, makeId: () => string): string {
  let best = makeId()
  if (sessions.length === 0) return best
  const tries = Math.max(1, Math.min(idsMost, Math.floor(drawsMost / sessions.length)))
  const distance = (id: string) =>
    Math.abs(sessions.filter((session) => pointOf(session, id) < share).length - sessions.length * share)
  let least = distance(best)
  for (let i = 1; i < tries && least >= 0.5; i++) {
    const id = makeId()
    const its = distance(id)
    if (its >= least) continue
    best = id
    least = its
  }
  return best
}

export interface Sides<N> {
  readonly canary: readonly N[]
  readonly others: readonly N[]
}

export function sidesOf<N extends { readonly version: string | null }>(
  nodes: readonly N[],
  { version }: Pick<Canary, 'version'>,
): Sides<N> {
  return {
    canary: nodes.filter((node) => node.version === version),
    others: nodes.filter((node) => node.version !== version),
  }
}

/** The groups within which the pool is balanced: all its nodes, or, while there is a canary, each side by itself. */
export function groupsOf<N extends { readonly version: string | null }>(
  nodes: readonly N[],
  canary: Canary | null,
): (readonly N[])[] {
  if (canary === null) return [nodes]
  const sides = sidesOf(nodes, canary)
  return [sides.canary, sides.others]
}

/** One plan for several groups, none of whose sessions goes to another. `maxMoves` is for all of them. */
export function planGroups(
  groups: readonly (readonly Candidate[])[],
  { maxMoves = Number.POSITIVE_INFINITY, ...options }: PlanOptions,
): RebalancePlan {
  let left = maxMoves
  const plans = groups.map((group) => {
    const plan = planRebalance(group, { ...options, maxMoves: left })
    left -= plan.total
    return plan
  })
  const moves = plans.flatMap((plan) => plan.moves)
  return { ...joined(plans), moves, total: moves.reduce((sum, { count }) => sum + count, 0) }
}

/** The imbalance of several plans is that of the worst. */
export function joined(plans: readonly { imbalanceBefore: number; imbalanceAfter: number }[]): {
  imbalanceBefore: number
  imbalanceAfter: number
} {
  return {
    imbalanceBefore: Math.max(0, ...plans.map((plan) => plan.imbalanceBefore)),
    imbalanceAfter: Math.max(0, ...plans.map((plan) => plan.imbalanceAfter)),
  }
}

/** Which of two canaries of one pool holds: the later one. */
export function isLater(a: Canary, b: Canary): boolean {
  return a.startedAt !== b.startedAt ? a.startedAt > b.startedAt : a.id > b.id
}

/** Which of two states of one canary holds. */
export function isNewer(a: Canary, b: Canary): boolean {
  return a.revision !== b.revision ? a.revision > b.revision : a.state > b.state
}

/** What nodes keep. Returns null for anything that is no canary of this version of the format. */
export function parseCanary(text: string): Canary | null {
  let value: Record<string, unknown>
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const { id, pool, version, share, state, revision, gateway, reason } = value
  const { startedAt, watchFrom, changedAt, watchMs, maxErrorRatio, maxTimeRatio, minSessions } = value
  const texts = [id, pool, version, gateway].every(isText)
  const times = [revision, startedAt, watchFrom, changedAt, watchMs, minSessions].every(isCount)
  if (!texts || !times || !canaryStates.includes(state as CanaryState)) return null
  if (!isNumber(share, 0, 1) || ![maxErrorRatio, maxTimeRatio].every((ratio) => isNumber(ratio, 1, 1e6)))
    return null
  if (typeof reason !== 'string' || reason.length > canaryLimits.reasonCharacters) return null
  return {
    id,
    pool,
    version,
    share,
    state,
    revision,
    gateway,
    startedAt,
    watchFrom,
    changedAt,
    watchMs,
    maxErrorRatio,
    maxTimeRatio,
    minSessions,
    reason,
  } as Canary
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 128
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isNumber(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && value >= least && value <= most
}
