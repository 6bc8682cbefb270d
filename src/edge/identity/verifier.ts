import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose'
import { type TokenAlgorithm, tokenAlgorithms } from '../../core/identity/algorithms.ts'
import { userOf } from '../../core/identity/claims.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { AuthOutcome, Identity } from './identity.ts'
import { type KeySource, KeysAway } from './key-set.ts'

export interface TokenRules {
  readonly algorithms: readonly TokenAlgorithm[]
  /** Absent: of anybody. */
  readonly issuer?: readonly string[] | undefined
  /** Absent: for anybody. */
  readonly audience?: readonly string[] | undefined
  readonly skewMs: number
  readonly userClaim: string
  /** From `iat` to `exp`. Absent: as long as the token says. */
  readonly maxLifetimeMs?: number | undefined
}

/** A token that is not taken. Its message names the reason, and nothing of the token. */
export class TokenRefused extends EvenkeelError {
  readonly outcome: AuthOutcome

  constructor(outcome: AuthOutcome, reason: string) {
    super(outcome === 'unavailable' ? 'NOT_READY' : 'UNAUTHORIZED', reason)
    this.outcome = outcome
  }
}

const tokenLength = 8_192

/** Judges JSON Web Tokens (RFC 7519, RFC 8725). */
export class TokenVerifier {
  private readonly keys: KeySource
  private readonly rules: TokenRules

  constructor(keys: KeySource, rules: TokenRules) {
    this.keys = keys
    this.rules = rules
  }

  /** Throws TokenRefused. */
  async verify(token: string): Promise<Identity> {
    if (token.length > tokenLength)
      throw new TokenRefused('malformed', `a token has at most ${tokenLength} bytes`)
    const { alg, kid } = headerOf(token)
    if (!this.rules.algorithms.includes(alg))
      throw new TokenRefused('algorithm', "the token's algorithm is not among those that are allowed")
    return this.identityOf(await this.payloadOf(token, alg, kid))
  }

  private async payloadOf(token: string, alg: TokenAlgorithm, kid: string | undefined): Promise<JWTPayload> {
    const { issuer, audience, skewMs } = this.rules
    const options = {
      algorithms: [alg],
      requiredClaims: ['exp'],
      clockTolerance: skewMs / 1_000,
      ...(issuer === undefined ? {} : { issuer: [...issuer] }),
      ...(audience === undefined ? {} : { audience: [...audience] }),
    }
    const candidates = await this.candidates(alg, kid)
    let refused = new TokenRefused('key', 'no key here is the one that the token names')
    for (const { key } of candidates) {
      try {
        return (await jwtVerify(token, key, options)).payload
      } catch (error) {
        refused = refusalOf(error)
        // Of several keys without a name another one may fit.
        if (refused.outcome !== 'signature') break
      }
    }
    throw refused
  }

  private async candidates(alg: TokenAlgorithm, kid: string | undefined) {
    try {
      return await this.keys.find(alg, kid)
    } catch (error) {
      if (!(error instanceof KeysAway)) throw error
      throw new TokenRefused('unavailable', 'the keys that tokens are judged by are not here now; try again')
    }
  }

  private identityOf(claims: JWTPayload): Identity {
    const { userClaim, maxLifetimeMs, skewMs } = this.rules
    const expiresAt = claims.exp! * 1_000
    if (maxLifetimeMs !== undefined) {
      if (claims.iat === undefined) throw new TokenRefused('claims', 'the claim iat is missing')
      if (expiresAt - claims.iat * 1_000 > maxLifetimeMs || claims.iat * 1_000 > Date.now() + skewMs)
        throw new TokenRefused('claims', 'the token is valid for longer than tokens may be')
    }
    const user = userOf(claims, userClaim)
    if (user === null) throw new TokenRefused('claims', `the claim ${userClaim} names no user`)
    return { user, subject: user, claims, validity: { expiresAt, skewMs } }
  }
}

function headerOf(token: string): { alg: TokenAlgorithm; kid: string | undefined } {
  try {
    const { alg, kid } = decodeProtectedHeader(token)
    if (!tokenAlgorithms.includes(alg as TokenAlgorithm))
      throw new TokenRefused('algorithm', "the token's algorithm is not among those that are allowed")
    return { alg: alg as TokenAlgorithm, kid: typeof kid === 'string' ? kid : undefined }
  } catch (error) {
    throw error instanceof TokenRefused ? error : new TokenRefused('malformed', 'the token is no JWT')
  }
}

function refusalOf(error: unknown): TokenRefused {
  if (error instanceof errors.JWTExpired) return new TokenRefused('expired', 'the token has expired')
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf') return new TokenRefused('early', 'the token is not valid yet')
    return new TokenRefused(
      'claims',
      `the claim ${error.claim} is ${error.reason === 'missing' ? 'missing' : 'not what it must be'}`,
    )
  }
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return new TokenRefused('signature', 'the signature of the token does not fit')
  if (error instanceof errors.JOSEError)
    return new TokenRefused('malformed', 'the token is no JWT that is understood here')
  // As a key that is too short for the algorithm.
  return new TokenRefused('key', 'the key that the token names does not go with its algorithm')
}
