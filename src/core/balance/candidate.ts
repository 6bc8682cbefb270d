/** A node as the balancing decisions see it: a snapshot, never mutated here. */
export interface Candidate {
  id: string
  /** Relative size, above 0. A node of weight 0 takes no part. */
  weight: number
  /** Sessions that the node counts over all gateways. */
  sessions: number
  /** Sessions assigned to the node that it has not counted yet or is still importing. */
  pending: number
  /** Most sessions the node will hold. null: no bound. */
  maxSessions: number | null
  healthy: boolean
  /** Neither draining, drained nor down. */
  active: boolean
  /** Its sessions leave when it is drained, not for the sake of balance. Absent: they may. */
  keepsSessions?: boolean
  /** How far a new node has been warmed up, 0 < warmth ≤ 1: its weight counts for so much. Absent: 1. */
  warmth?: number
  /** How long it takes to handle a message, in ms (EWMA). Absent: nobody knows yet. */
  responseMs?: number | undefined
  /** What its sessions send and get, both ways (EWMA). Absent: nobody knows yet. */
  bytesPerSecond?: number
  /** Sessions that it was given since `bytesPerSecond` was measured. Absent: 0. */
  unmeasured?: number
}

/** The weight that counts while the node is new. */
export function weightNow({ weight, warmth = 1 }: Candidate): number {
  return weight * warmth
}

/**
 * Slow start: the warmth of a node that has been here for `ageMs`. Grows evenly from a tenth to 1 in `slowStartMs`; 0: at once.
 */
export function warmthAt(ageMs: number, slowStartMs: number): number {
  return slowStartMs <= 0 || ageMs >= slowStartMs ? 1 : Math.max(coldest, ageMs / slowStartMs)
}

/** A node of no weight would get no session at all, and never show what it can do. */
const coldest = 0.1

/** Sessions that the node has or is about to have. */
export function load(candidate: Candidate): number {
  return candidate.sessions + candidate.pending
}

/** Whether the node counts when shares are computed: a full node does. */
export function participates(candidate: Candidate): boolean {
  return candidate.active && candidate.healthy && candidate.weight > 0
}

/** Whether the node may be given one more session. */
export function isEligible(candidate: Candidate): boolean {
  return (
    participates(candidate) && (candidate.maxSessions === null || load(candidate) < candidate.maxSessions)
  )
}
