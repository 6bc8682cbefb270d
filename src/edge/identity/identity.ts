import type { Claims } from '../../core/identity/claims.ts'
import type { Validity } from '../../core/identity/expiry.ts'

/** Who a client is. */
export interface Identity {
  readonly user: string
  /** All that is said of the user. */
  readonly claims: Claims
  /** Whom the token named: an `authorize` hook may have said somebody else. */
  readonly subject: string
  /** null: it does not expire. */
  readonly validity: Validity | null
}

export type { AuthOutcome } from '../../gateway/operator.ts'
