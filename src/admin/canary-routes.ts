import { z } from 'zod'
import { canaryLimits } from '../core/balance/canary.ts'
import type { CanaryOrder, CanaryStarted } from '../gateway/canary-operator.ts'
import type { Operator } from '../gateway/operator.ts'
import type { Peers } from './peers.ts'
import { type Reply, route } from './router.ts'

const { percent, watchMs, ratio, minSessions } = canaryLimits
const percentNumber = z.number().min(percent.least).max(percent.most)
const ratioNumber = z.number().min(ratio.least).max(ratio.most)
const orderBody = z.strictObject({
  pool: z.string().min(1).max(64),
  version: z.string().min(1).max(64),
  percent: percentNumber,
  watchMs: z.int().min(watchMs.least).max(watchMs.most).exactOptional(),
  maxErrorRatio: ratioNumber.exactOptional(),
  maxTimeRatio: ratioNumber.exactOptional(),
  minSessions: z.int().min(minSessions.least).max(minSessions.most).exactOptional(),
})
const promoteBody = z.strictObject({ percent: percentNumber.exactOptional() })

/** Canaries of live sessions. Every gateway knows them all, and any may be asked. */
export function canaryRoutes({ canaries }: Operator, peers: Peers) {
  return [
    route({ method: 'GET', path: '/canaries', handle: () => ({ status: 200, body: canaries.list() }) }),
    route({
      method: 'GET',
      path: '/canaries/:id',
      handle: peers.anywhere(({ params: [id = ''] }) => ({ status: 200, body: canaries.get(id) })),
    }),
    route({
      method: 'POST',
      path: '/canaries',
      body: orderBody,
      handle: ({ body }) => accepted(canaries.start(body as CanaryOrder)),
    }),
    route({
      method: 'POST',
      path: '/canaries/:id/return',
      body: z.strictObject({}),
      handle: ({ params: [id = ''] }) => accepted(canaries.return(id)),
    }),
    route({
      method: 'POST',
      path: '/canaries/:id/promote',
      body: promoteBody,
      handle: ({ params: [id = ''], body }) => accepted(canaries.promote(id, body.percent)),
    }),
  ]
}

/** The operation, as of a drain, and the canary with it. */
function accepted({ operation, canary }: CanaryStarted): Reply {
  return { status: 202, body: { ...operation, canary } }
}
