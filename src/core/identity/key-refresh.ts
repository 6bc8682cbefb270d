/** What is known of a set of keys that is kept elsewhere. Monotonic milliseconds. */
export interface KeySetState {
  /** When it was got; null: never. */
  readonly fetchedAt: number | null
  /** The last attempt; null: none was made. */
  readonly triedAt: number | null
}

export interface RefreshRules {
  /** A set that is older is asked for anew, and used meanwhile. */
  readonly cacheMs: number
  /** Between attempts, whatever tokens say. */
  readonly cooldownMs: number
  /** A set that could not be renewed for so long is not believed any more. */
  readonly staleMs: number
}

/** `wait`: the answer is needed. `behind`: what is there will do meanwhile. */
export type Refresh = 'none' | 'behind' | 'wait'

/** Without any keys an attempt is worth making soon: nobody is let in before. */
const emptyCooldownMs = 1_000

/** `wanted`: a token names a key that is not in the set. */
export function refreshFor(
  { fetchedAt, triedAt }: KeySetState,
  { cacheMs, cooldownMs, staleMs }: RefreshRules,
  wanted: boolean,
  now: number,
): Refresh {
  const usable = fetchedAt !== null && now - fetchedAt < staleMs
  const restMs = usable ? cooldownMs : Math.min(cooldownMs, emptyCooldownMs)
  if (triedAt !== null && now - triedAt < restMs) return 'none'
  if (!usable || wanted) return 'wait'
  return now - fetchedAt >= cacheMs ? 'behind' : 'none'
}

export function isUsable({ fetchedAt }: KeySetState, { staleMs }: RefreshRules, now: number): boolean {
  return fetchedAt !== null && now - fetchedAt < staleMs
}
