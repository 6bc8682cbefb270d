import { type Rate, TokenBucket } from './token-bucket.ts'

/** From `take`: this client is not to be waited for any longer. */
export const outOfPatience = -1

/** Who begins again to send too much within this time has not stopped. */
const pauseMs = 1_000

/**
 * How fast messages may come. What has come is taken, for nothing may be lost; whoever is beyond the rate is not read until it is made
 * up for. That is back-pressure, and it has a bound: whoever goes on for `patienceMs`, or has sent so much at once that it would take
 * longer to make up for, is to be closed.
 */
export class MessagePace {
  private readonly bucket: TokenBucket
  /** Infinity: never. */
  private readonly patienceMs: number
  private overSince = 0
  private heldUntil = Number.NEGATIVE_INFINITY

  constructor(rate: Rate, patienceMs: number, now: number) {
    this.bucket = new TokenBucket(rate, now)
    this.patienceMs = patienceMs
  }

  /** One message has come. Returns for how many milliseconds no other one is to be read, or `outOfPatience`. */
  take(now: number): number {
    const waitMs = this.bucket.draw(now)
    return waitMs === 0 ? 0 : this.over(now, waitMs)
  }

  /** Milliseconds until a message would be within the rate. */
  waitMs(now: number): number {
    return this.bucket.waitMs(now)
  }

  /** It is beyond its rate for so long, as is found out here or elsewhere. */
  protected over(now: number, waitMs: number): number {
    if (now > this.heldUntil + pauseMs) this.overSince = now
    this.heldUntil = Math.max(this.heldUntil, now + waitMs)
    const isTooMuch = waitMs > this.patienceMs || now - this.overSince >= this.patienceMs
    return isTooMuch ? outOfPatience : waitMs
  }
}
