/**
 * Exponential back-off with full jitter: a time between 0 and `min(capMs, baseMs · 2^attempt)`.
 * Source: M. Brooker, "Exponential Backoff And Jitter", 2015.
 */
export function backoffMs(attempt: number, random: () => number, baseMs = 100, capMs = 5_000): number {
  return random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30))
}
