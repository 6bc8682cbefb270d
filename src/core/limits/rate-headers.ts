import type { Rate } from './token-bucket.ts'

/** What a client is told of a limit that it is under. */
export interface Quota {
  readonly name: string
  readonly rate: Rate
  /** What it could ask for now. */
  readonly left: number
  /** Milliseconds until it can ask for more. */
  readonly waitMs: number
}

/** `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers: the quota of a window, and what is left of it. */
export function rateHeaders({ name, rate, left, waitMs }: Quota): Record<string, string> {
  const windowSeconds = Math.max(1, Math.ceil(rate.burst / rate.perSecond))
  return {
    'ratelimit-policy': `"${name}";q=${rate.burst};w=${windowSeconds}`,
    ratelimit: `"${name}";r=${left};t=${Math.ceil(waitMs / 1000)}`,
  }
}
