import type { ChannelPermission } from '../../core/identity/channel-permissions.ts'
import type { TokenPlace } from '../../core/identity/shown-token.ts'
import type { AuthorizeHook } from './authorize-hook.ts'
import { Expiries } from './expiries.ts'
import type { TokenVerifier } from './verifier.ts'

/** What those behind the gateway are told of users. */
export interface ToldRules {
  /** In lower case. */
  readonly userHeader: string
  /** Headers in lower case, and the claim of each. */
  readonly claimHeaders: readonly (readonly [header: string, claim: string])[]
  /** For nodes. */
  readonly claims: readonly string[]
}

export interface IdentificationOptions {
  /** null: no tokens. */
  readonly verifier: TokenVerifier | null
  readonly places: readonly TokenPlace[]
  readonly cookie: string
  /** Whether those who show no token are turned away where no route says otherwise. */
  readonly required: boolean
  /** Whether those behind the gateway get an `Authorization` that the gateway has judged. */
  readonly passOn: boolean
  readonly told: ToldRules
  /** null: nobody is asked. */
  readonly hook: AuthorizeHook | null
  /** null: clients may use no channels by themselves. */
  readonly permissions: readonly ChannelPermission[] | null
  /** Whether a pool is of servers that are known by URL. */
  isOfUpstreams(pool: string): boolean
}

/** How it is found out who clients are: a part of the settings, replaced with them. */
export class Identification {
  readonly options: IdentificationOptions
  readonly headerNames: ReadonlySet<string>
  readonly expiries = new Expiries()

  constructor(options: IdentificationOptions) {
    this.options = options
    const { userHeader, claimHeaders } = options.told
    this.headerNames = new Set([userHeader, ...claimHeaders.map(([header]) => header)])
  }

  get told(): ToldRules {
    return this.options.told
  }
}
