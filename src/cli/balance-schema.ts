import { z } from 'zod'
import { affinities, clientKeyPlaces, loadKinds, measures, policyNames, timerMsMax } from './choices.ts'

export const policySchema = z.enum(policyNames)

export const hashKeySchema = z
  .strictObject({
    by: z.enum(clientKeyPlaces).describe('Where a client shows its key.'),
    name: z
      .string()
      .regex(/^[\x21-\x7e]{1,64}$/)
      .describe('Name of the header, cookie or query parameter.'),
  })
  .describe('What the policy key-hash hashes. A client that shows none gets any node.')

export const slowStartSchema = z
  .int()
  .min(0)
  .max(timerMsMax)
  .describe('Milliseconds until a new node gets its full share. 0: at once.')

const load = z
  .enum(loadKinds)
  .describe('What live sessions are moved for: their number, their traffic, or the load that nodes report.')
const measure = z
  .enum(measures)
  .describe(
    'What traffic is counted in: messages or bytes both ways, or time, in which a node has a message of the session.',
  )
const loadTolerance = z
  .number()
  .min(0.01)
  .max(1)
  .describe('As tolerance, where load is not sessions: there a session goes whole or not at all.')

/** Of all pools. */
export const loadShape = {
  load: load.default('sessions'),
  measure: measure.default('messages'),
  loadTolerance: loadTolerance.default(0.15),
}

/** What one pool does otherwise than all. */
export const poolBalanceShape = {
  policy: policySchema.exactOptional().describe('Default: that of all pools.'),
  hashKey: hashKeySchema.exactOptional(),
  slowStartMs: slowStartSchema.exactOptional(),
  rebalance: z
    .strictObject({
      load: load.exactOptional(),
      measure: measure.exactOptional(),
      loadTolerance: loadTolerance.exactOptional(),
    })
    .exactOptional(),
  affinity: z
    .enum(affinities)
    .exactOptional()
    .describe(
      'session: the messages of a session go to one node. message: each goes by itself to the node with the least in flight. Default: session.',
    ),
  orderBy: z
    .strictObject({ json: z.string().min(1).max(64).describe('A field of the message, which is an object.') })
    .exactOptional()
    .describe('Affinity message: messages with the same value there keep their order. Default: none do.'),
}
