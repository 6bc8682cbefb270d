import { createHash } from 'node:crypto'
import { isSameSecret } from '../link/token.ts'
import { randomText } from './random-text.ts'

/** Of 16 random bytes. */
const secretLength = 22

/**
 * Makes the id of a run. That of a user's run holds a hash by which every gateway can tell whose it is, without asking anybody. null: whoever knows it may
 * read and cancel it.
 */
export function newRunId(owner: string | null): string {
  const secret = randomText(16)
  return owner === null ? secret : secret + markOf(secret, owner)
}

/** Whether the run is this user's, or nobody's. */
export function isRunOf(run: string, user: string | null): boolean {
  if (run.length !== 2 * secretLength) return true
  const secret = run.slice(0, secretLength)
  return user !== null && isSameSecret(run.slice(secretLength), markOf(secret, user))
}

function markOf(secret: string, owner: string): string {
  return createHash('sha256').update(`${secret}\n${owner}`).digest('base64url').slice(0, secretLength)
}
