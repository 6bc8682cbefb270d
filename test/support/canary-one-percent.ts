import type { Canary } from '../../src/core/balance/canary.ts'

/** One that is under way, of 1 % of a pool. */
export const canary: Canary = {
  id: 'can_1',
  pool: 'chat',
  version: '2',
  share: 0.01,
  state: 'watching',
  revision: 7,
  gateway: 'gw-1',
  startedAt: 5,
  watchFrom: 5,
  changedAt: 7,
  watchMs: 60_000,
  maxErrorRatio: 2,
  maxTimeRatio: 3,
  minSessions: 1,
  reason: '',
}
