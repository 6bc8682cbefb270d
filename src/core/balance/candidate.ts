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
}

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
