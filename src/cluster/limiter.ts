import { createHash } from 'node:crypto'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import { BoundedMap } from '../core/limits/bounded-map.ts'
import type { Rate } from '../core/limits/token-bucket.ts'

/** What one more is answered with. */
export interface RateVerdict {
  readonly allowed: boolean
  /** What is left of the window that is counted in. */
  readonly left: number
  /** Milliseconds until the window ends. */
  readonly resetMs: number
}

/** A rate that one key may have, over all gateways that share a Redis. */
export interface Limiter {
  /** Never rejects: while Redis is away, each gateway counts for itself. */
  consume(key: string, count: number): Promise<RateVerdict>
}

/** Makes limiters; `name` says which is which, and is the same at all gateways. */
export type MakeLimiter = (name: string, rate: Rate) => Limiter

/** Counted in memory while Redis is away; beyond them, those that were not heard of for longest begin anew. */
const keysMost = 100_000
const windowSecondsMost = 3_600

/** A key may be any text, and somebody's name. */
function shortKey(key: string): string {
  return createHash('sha256').update(key).digest('base64url').slice(0, 22)
}

/** A window in which a whole burst may come, and no more than the rate allows. */
function windowOf({ perSecond, burst }: Rate): { points: number; duration: number } {
  const duration = Math.min(windowSecondsMost, Math.max(1, Math.ceil(burst / perSecond)))
  return { points: Math.max(1, Math.floor(perSecond * duration)), duration }
}

/** `run` counts at Redis: adds the points to the key, which lives for so many seconds, and returns the sum and the milliseconds left. */
export function redisLimiter(
  name: string,
  rate: Rate,
  prefix: string,
  run: (key: string, points: string, seconds: string) => Promise<unknown>,
): Limiter {
  const insurance = new RateLimiterMemory({ ...windowOf(rate), keyPrefix: name })
  const insured = new BoundedMap<string, true>(
    keysMost,
    () => true,
    (key) => void insurance.delete(key),
  )
  const redis = new RateLimiterRedis({
    ...windowOf(rate),
    keyPrefix: `${prefix}limit:${name}`,
    // The link to Redis is ours, with its bounds and its time-outs; this is all of a client that is asked for.
    storeClient: { rlflxIncr: ([key, points, seconds]: string[]) => run(key!, points!, seconds!) },
    insuranceLimiter: insurance,
  })
  return {
    async consume(text, count) {
      const key = shortKey(text)
      insured.get(key)
      try {
        return verdict(true, await redis.consume(key, count))
      } catch (refusal) {
        if (refusal instanceof RateLimiterRes) return verdict(false, refusal)
        throw refusal
      }
    },
  }
}

function verdict(allowed: boolean, { remainingPoints, msBeforeNext }: RateLimiterRes): RateVerdict {
  return { allowed, left: remainingPoints, resetMs: Math.max(0, msBeforeNext) }
}
