import { createHash } from 'node:crypto'
import { isRunOf } from '../../gateway/run-owner.ts'
import type { RunService } from '../../gateway/run-types.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { Identity } from './identity.ts'

/** The runs as one user may use them: those that the user has made, and those that are nobody's. Throws FORBIDDEN for the others. */
export function ownRuns(runs: RunService, identity: Identity | null): RunService {
  const user = identity?.user ?? null
  const check = (run: string) => {
    if (!isRunOf(run, user)) throw new EvenkeelError('FORBIDDEN', 'the run is of another user')
  }
  return {
    // Two users may choose the same key.
    start: ({ idempotencyKey, ...request }) =>
      runs.start({ ...request, owner: user, idempotencyKey: ownKey(idempotencyKey, user) }),
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
