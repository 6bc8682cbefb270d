import type { CanaryState } from '../core/balance/canary.ts'
import type { Operation } from './operator.ts'

/** What operators see and do of canaries of live sessions. */
export interface CanaryOperator {
  /** The latest first; those that are over are forgotten in time. */
  list(): CanaryView[]
  /** Throws NOT_FOUND. */
  get(id: string): CanaryView
  /**
   * Gives a share of the pool's sessions, live and new ones, to nodes of the version. Throws NOT_FOUND (no such pool), BAD_REQUEST (a field),
   * CONFLICT (the pool has a canary; no active node of the version, or none of another one; affinity `message`), DRAINING (this gateway plans no more).
   */
  start(order: CanaryOrder): CanaryStarted
  /** Gives its sessions back. Throws NOT_FOUND, CONFLICT (it is over), DRAINING. */
  return(id: string): CanaryStarted
  /**
   * With `percent` a greater share, watched anew; without, drains the pool's nodes of other versions. Throws NOT_FOUND, BAD_REQUEST, CONFLICT (it is over, or
   * the version's nodes have no room), DRAINING.
   */
  promote(id: string, percent?: number): CanaryStarted
}

export interface CanaryOrder {
  pool: string
  version: string
  /** Of the pool's sessions, 0.1 to 50. */
  percent: number
  /** How long errors are watched, 1 s to 7 days. Default 600,000 ms. */
  watchMs?: number
  /** How much oftener than the rest of the pool the version may fail, per session and time, from 1. Default 2. */
  maxErrorRatio?: number
  /** How much longer its messages may take, from 1. Default 3. */
  maxTimeRatio?: number
  /** Sessions that it must have on average to pass; the watch goes on until then. Default 1. */
  minSessions?: number
}

export interface CanaryStarted {
  canary: CanaryView
  operation: Operation
}

/** What is counted is of all gateways, at most some seconds old. */
export interface CanaryView {
  id: string
  pool: string
  version: string
  state: CanaryState
  /** Why it is in this state; '' at first. */
  reason: string
  /** Of the pool's sessions, now. */
  percent: number
  /** Who judges it. */
  gateway: string
  startedAt: number
  watchFrom: number
  watchMs: number
  maxErrorRatio: number
  maxTimeRatio: number
  minSessions: number
  /** At nodes of the version now. */
  sessions: number
  poolSessions: number
  /** Sessions moved to the version, and away from it. */
  moved: number
  returned: number
  /** Moves that failed; they are tried again. */
  failed: number
  /** Sessions that are to be moved. */
  left: number
  /** Since the watch began. */
  seen: { canary: SeenView; others: SeenView }
}

export interface SeenView {
  sessionSeconds: number
  failures: number
  /** Per session. */
  failuresPerHour: number
  /** From a message to its commit, typically (the geometric mean); null: too few were timed. */
  messageMs: number | null
}
