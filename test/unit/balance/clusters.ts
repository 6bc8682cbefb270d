import fc from 'fast-check'
import { type Candidate, load } from '../../../src/core/balance/candidate.ts'
import type { RebalancePlan } from '../../../src/core/balance/planner.ts'

export const noise = 1e-6

export function node(id: string, sessions: number, fields: Partial<Candidate> = {}): Candidate {
  return { id, weight: 1, sessions, pending: 0, maxSessions: null, healthy: true, active: true, ...fields }
}

/** The pool after the plan, or with `inFlight` while its sessions are still being imported. */
export function apply(nodes: readonly Candidate[], plan: RebalancePlan, inFlight = false): Candidate[] {
  const after = new Map(nodes.map((one) => [one.id, { ...one }]))
  for (const { from, to, count } of plan.moves) {
    after.get(from)!.sessions -= count
    after.get(to)![inFlight ? 'pending' : 'sessions'] += count
  }
  return [...after.values()]
}

export const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
export const takesPart = (one: Candidate): boolean => one.active && one.healthy && one.weight > 0
export const capacity = (one: Candidate): number => one.maxSessions ?? Number.POSITIVE_INFINITY

/** An independent way to the fair shares: raise the water level until the pool's load fits. */
export function sharesByWaterLevel(nodes: readonly Candidate[]): Map<string, number> {
  const taking = nodes.filter(takesPart)
  const total = sum(taking.map(load))
  const sharesAt = (level: number) => taking.map((one) => Math.min(capacity(one), level * one.weight))
  let low = 0
  let high = total / Math.min(...taking.map((one) => one.weight))
  for (let i = 0; i < 200; i++) {
    const middle = (low + high) / 2
    if (sum(sharesAt(middle)) < total) low = middle
    else high = middle
  }
  const shares = sharesAt(high)
  return new Map(taking.map((one, i) => [one.id, shares[i]!]))
}

export interface Band {
  one: Candidate
  load: number
  fair: number
  lower: number
  upper: number
}

export function bandsOf(nodes: readonly Candidate[], tolerance: number): Band[] {
  const shares = sharesByWaterLevel(nodes)
  return nodes.filter(takesPart).map((one) => {
    const fair = shares.get(one.id)!
    const slack = Math.max(1, tolerance * fair) + noise
    const upper = Math.min(Math.floor(fair + slack), capacity(one))
    return { one, load: load(one), fair, lower: Math.max(0, Math.ceil(fair - slack)), upper }
  })
}

/** No plan can do with fewer: what is above the bands must leave, what is missing below them must come. */
export function lowerBound(bands: readonly Band[]): number {
  const excess = sum(bands.map((band) => Math.max(0, band.load - band.upper)))
  const deficit = sum(bands.map((band) => Math.max(0, band.lower - band.load)))
  return Math.max(excess, deficit)
}

export const fits = (nodes: readonly Candidate[]): boolean =>
  sum(nodes.filter(takesPart).map(load)) <= sum(nodes.filter(takesPart).map(capacity))

const weight = fc.oneof(
  fc.integer({ min: 1, max: 5 }),
  fc.double({ min: 0.05, max: 50, noNaN: true }),
  fc.constantFrom(0, 0.1, 0.3, 1_000),
)
const sessions = fc.oneof(fc.nat(5), fc.nat(200), fc.nat(20_000))
const maxSessions = fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 2, arbitrary: sessions })
const mostly = fc.integer({ min: 0, max: 9 }).map((n) => n > 0)

function clusters(pending: fc.Arbitrary<number>): fc.Arbitrary<Candidate[]> {
  const one = fc.record({ weight, sessions, pending, maxSessions, healthy: mostly, active: mostly })
  return fc
    .oneof(fc.array(one, { maxLength: 4 }), fc.array(one, { maxLength: 30 }))
    .map((nodes) => nodes.map((fields, i) => ({ id: `n${i}`, ...fields })))
}
export const settled = clusters(fc.constant(0))
export const busy = clusters(fc.oneof(fc.constant(0), fc.nat(5), fc.nat(2_000)))
export const tolerance = fc.constantFrom(0, 0.03, 0.03, 0.1, 0.5)
export const maxMoves = fc.oneof(fc.nat(20), fc.nat(5_000))
