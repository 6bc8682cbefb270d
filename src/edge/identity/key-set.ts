import { createPublicKey, type KeyObject } from 'node:crypto'
import { keyTypeOf, type TokenAlgorithm } from '../../core/identity/algorithms.ts'
import { isUsable, type KeySetState, type RefreshRules, refreshFor } from '../../core/identity/key-refresh.ts'

/** A key that verifies tokens. */
export interface TokenKey {
  /** null: of any name. */
  readonly kid: string | null
  /** null: of any algorithm of its type. */
  readonly alg: TokenAlgorithm | null
  readonly key: KeyObject
}

export interface KeySource {
  /** The keys that may have signed such a token. Throws `KeysAway`. */
  find(alg: TokenAlgorithm, kid: string | undefined): Promise<readonly TokenKey[]>
}

/** There are no keys to judge a token by, and nobody to get them from. */
export class KeysAway extends Error {}

/** Keys of the same set that one token is tried with. */
const candidatesMost = 8
const keysMost = 64

export class FixedKeys implements KeySource {
  private readonly keys: readonly TokenKey[]

  constructor(keys: readonly TokenKey[]) {
    this.keys = keys
  }

  async find(alg: TokenAlgorithm, kid: string | undefined): Promise<readonly TokenKey[]> {
    return fitting(this.keys, alg, kid)
  }
}

export interface RemoteKeysOptions extends RefreshRules {
  /** The text of a JWK set (RFC 7517 §5). */
  get(): Promise<string>
  onProblem(problem: string): void
  /** Monotonic milliseconds. Default: `performance.now`. */
  now?: () => number
}

/** A set of public keys that is kept elsewhere and changes there. One request at a time, however many tokens wait for it. */
export class RemoteKeys implements KeySource {
  private readonly options: RemoteKeysOptions
  private readonly now: () => number
  private keys: readonly TokenKey[] = []
  private state: { -readonly [Key in keyof KeySetState]: KeySetState[Key] } = {
    fetchedAt: null,
    triedAt: null,
  }
  private running: Promise<void> | null = null

  constructor(options: RemoteKeysOptions) {
    this.options = options
    this.now = options.now ?? (() => performance.now())
  }

  async find(alg: TokenAlgorithm, kid: string | undefined): Promise<readonly TokenKey[]> {
    const isKnown = fitting(this.keys, alg, kid).length > 0
    const refresh = refreshFor(this.state, this.options, !isKnown, this.now())
    if (refresh !== 'none') this.running ??= this.refresh()
    // Who has its key need not wait for those who have not.
    const waits = this.running !== null && (refresh === 'wait' || !isKnown || this.state.fetchedAt === null)
    if (waits) await this.running
    if (!isUsable(this.state, this.options, this.now())) throw new KeysAway()
    return fitting(this.keys, alg, kid)
  }

  /** Never rejects: the keys that there are stay. */
  private async refresh(): Promise<void> {
    this.state.triedAt = this.now()
    try {
      this.keys = parseKeySet(await this.options.get())
      this.state.fetchedAt = this.now()
    } catch (error) {
      this.options.onProblem(`the key set for tokens cannot be had: ${(error as Error).message}`)
    } finally {
      this.running = null
    }
  }
}

function fitting(keys: readonly TokenKey[], alg: TokenAlgorithm, kid: string | undefined): TokenKey[] {
  return keys
    .filter((one) => (one.alg ?? alg) === alg && isOfType(one.key, alg))
    .filter((one) => one.kid === null || kid === undefined || one.kid === kid)
    .slice(0, candidatesMost)
}

const types: Readonly<Record<string, string>> = {
  rsa: 'RSA',
  'rsa-pss': 'RSA',
  ec: 'EC',
  ed25519: 'OKP',
}

function isOfType(key: KeyObject, alg: TokenAlgorithm): boolean {
  const type = key.type === 'secret' ? 'oct' : types[key.asymmetricKeyType ?? '']
  return type === keyTypeOf(alg)
}

/** Those of a JWK set that verify signatures. What is not understood is passed over, secrets too: a set that can be fetched has none. Throws. */
export function parseKeySet(text: string): TokenKey[] {
  const { keys } = JSON.parse(text) as { keys?: unknown }
  if (!Array.isArray(keys)) throw new Error('it is no JWK set')
  return keys.slice(0, keysMost).flatMap((jwk: Record<string, unknown>) => {
    if (typeof jwk !== 'object' || jwk === null || jwk.kty === 'oct') return []
    const { kid, alg, use, key_ops: operations } = jwk
    if (use !== undefined && use !== 'sig') return []
    if (Array.isArray(operations) && !operations.includes('verify')) return []
    try {
      const key = createPublicKey({ key: jwk, format: 'jwk' })
      return [{ kid: typeof kid === 'string' ? kid : null, alg: (alg ?? null) as TokenAlgorithm | null, key }]
    } catch {
      return []
    }
  })
}
