/** What a token may be signed with (RFC 7518, RFC 8037). `none` is not among them, and never allowed. */
export const tokenAlgorithms = [
  'HS256',
  'HS384',
  'HS512',
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const

export type TokenAlgorithm = (typeof tokenAlgorithms)[number]

/** Who can verify such a token can make one. */
export function isSymmetric(algorithm: string): boolean {
  return algorithm.startsWith('HS')
}

/** A secret shorter than the digest is weaker than its algorithm (RFC 7518 §3.2). Bytes; for symmetric ones. */
export function secretBytesLeast(algorithm: TokenAlgorithm): number {
  return Number(algorithm.slice(2)) / 8
}

/** The type of key (`kty` of RFC 7518 §6) that verifies it. */
export function keyTypeOf(algorithm: TokenAlgorithm): 'oct' | 'RSA' | 'EC' | 'OKP' {
  if (isSymmetric(algorithm)) return 'oct'
  if (algorithm.startsWith('ES')) return 'EC'
  return algorithm.startsWith('Ed') ? 'OKP' : 'RSA'
}

export interface KeyMaterial {
  readonly alg: TokenAlgorithm
  /** A shared secret, or a public key. */
  readonly isSecret: boolean
}

/**
 * Why these keys must not verify tokens together; null: they may. Where a server takes HS tokens and knows a public key, everybody who has
 * that public key may try to sign with it as if it were a secret: so the two families never meet.
 */
export function keysMistake(keys: readonly KeyMaterial[], hasKeySet: boolean): string | null {
  for (const { alg, isSecret } of keys) {
    if (isSymmetric(alg) && !isSecret) return `${alg} is verified with a secret: give secretFile`
    if (!isSymmetric(alg) && isSecret) return `${alg} is verified with a public key: give publicKeyFile`
  }
  const secrets = keys.filter(({ isSecret }) => isSecret).length
  if (secrets > 0 && (secrets < keys.length || hasKeySet))
    return 'HS keys cannot stand beside public keys: who knows a public key could sign with it'
  return null
}
