import { createHash } from 'node:crypto'
import type { Route } from '../../core/route/match.ts'
import { isRunOf } from '../../gateway/run-owner.ts'
import type { RunService } from '../../gateway/run-types.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { Identity } from './identity.ts'

/** Who has sent a request, and where it leads. */
interface Place {
  readonly identity: Identity | null
  readonly pool: string
  readonly route: Pick<Route, 'runPools'> | null
}

/**
 * The runs as one client may use them: those that its user has made, those that are nobody's, and new ones of the pools that it may reach.
 * Throws FORBIDDEN for the others.
 */
export function ownRuns(runs: RunService, { identity, pool: own, route }: Place): RunService {
  const user = identity?.user ?? null
  const check = (run: string) => {
    if (!isRunOf(run, user)) throw new EvenkeelError('FORBIDDEN', 'the run is of another user')
  }
  return {
    start: async ({ idempotencyKey, ...request }) => {
      const { pool } = request
      if (pool !== own && route?.runPools?.includes(pool) !== true)
        throw new EvenkeelError(
          'FORBIDDEN',
          "pool: runs of another pool may be started only where runPools of the client's route names it",
        )
      // Two users may choose the same key.
      return await runs.start({ ...request, owner: user, idempotencyKey: ownKey(idempotencyKey, user) })
    },
    openReader: async (run, after, sink, options) => {
      check(run)
      return await runs.openReader(run, after, sink, options)
    },
    cancel: async (run) => {
      check(run)
      return await runs.cancel(run)
    },
    status: async (run) => {
      check(run)
      return await runs.status(run)
    },
    relay: (request) => runs.relay({ ...request, owner: user }),
    label: (label, run) => runs.label(label, run),
    labelled: (label) => runs.labelled(label),
  }
}

/** What is no key stays so, and is refused where keys are looked at. */
function ownKey(key: string | null, user: string | null): string | null {
  if (key === null || user === null || !/^[\x21-\x7e]{1,255}$/.test(key)) return key
  return createHash('sha256')
    .update(JSON.stringify([user, key]))
    .digest('base64url')
}
