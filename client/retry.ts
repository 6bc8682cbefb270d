import { backoffMs } from '../src/core/backoff.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'

/** Clients that come for the first time spread over this time. */
const firstMs = 1_000
const baseMs = 500
const capMs = 30_000
/** A connection that lived for so long was no failure. */
const stableMs = 10_000

const comeBackCodes: ReadonlySet<number> = new Set([
  CloseCode.goingAway,
  CloseCode.noStatus,
  CloseCode.abnormal,
  CloseCode.internalError,
  CloseCode.serviceRestart,
  CloseCode.tryAgainLater,
  // Of proxies: a bad gateway, and a TLS handshake that failed.
  1014,
  1015,
])

/** Whether a client comes back after its connection ended with this code (PROTOCOL.md §4). */
export function isFinalCode(code: number): boolean {
  return !comeBackCodes.has(code) && !(code >= 4000 && code < 4100)
}

export interface EndedConnection {
  /** From its welcome to its end; null: it was never welcomed. */
  openMs: number | null
  /** What it asked for before the next attempt. */
  retryMs: number
}

/**
 * When to try again: after what the lost connection asked for; then, while connections fail or do not last for 10 s,
 * exponential back-off with full jitter on top, from 500 ms to 30 s.
 */
export class Retry {
  #failures = 0
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** Milliseconds to wait. */
  after({ openMs, retryMs }: EndedConnection): number {
    if (openMs !== null && openMs >= stableMs) this.#failures = 0
    const failures = this.#failures++
    if (failures === 0) return openMs === null ? this.#random() * firstMs : retryMs
    return retryMs + backoffMs(failures - 1, this.#random, baseMs, capMs)
  }
}
