import { backoffMs } from '../src/core/backoff.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import type { CloseKind, DisconnectKind } from './types.ts'

/** Clients that come for the first time spread over this time. */
const firstMs = 1_000
const baseMs = 500
const capMs = 30_000
/** A connection that lived for so long was no failure. */
const stableMs = 10_000

/** Going away; no status, abnormal; errors and restarts of servers and proxies; our own. */
const comeBackCodes = [
  [1001, 1001],
  [1005, 1006],
  [1011, 1015],
  [4000, 4099],
] as const

/** Whether a client comes back after its connection ended with this code (PROTOCOL.md §4). */
export function isFinalCode(code: number): boolean {
  return !comeBackCodes.some(([first, last]) => code >= first && code <= last)
}

export interface EndedConnection {
  /** From its welcome to its end; null: it was never welcomed. */
  openMs: number | null
  /** What it asked for before the next attempt; null: to come back at once, by another one. */
  retryMs: number | null
}

/** For clients that one leaving gateway sends to the next: each welcomes them first. */
const askedBaseMs = 100
const askedCapMs = 1_000

const disconnectKinds: Record<number, DisconnectKind> = {
  [CloseCode.internalError]: 'failed',
  [CloseCode.serviceRestart]: 'stopping',
  [CloseCode.tryAgainLater]: 'no-node',
  [CloseCode.badGateway]: 'failed',
  [CloseCode.slowConsumer]: 'slow',
}

/** Of a code that is not final. */
export function disconnectKind(code: number): DisconnectKind {
  return disconnectKinds[code] ?? (code >= 4000 ? 'ended' : 'lost')
}

const protocolCodes: ReadonlySet<number> = new Set([
  CloseCode.protocolError,
  CloseCode.unsupportedData,
  CloseCode.invalidPayload,
  CloseCode.protocolViolation,
])

/** Of a final code. */
export function closeKind(code: number): CloseKind {
  if (code === CloseCode.resumedElsewhere) return 'replaced'
  if (code === CloseCode.tooBig) return 'too-large'
  return protocolCodes.has(code) ? 'protocol' : 'ended'
}

/**
 * When to try again: at once when the gateway asked for it, with a short back-off when one gateway after the other does; else after what the lost connection asked for; then, while connections fail or do not last for 10 s,
 * exponential back-off with full jitter on top, from 500 ms to 30 s.
 */
export class Retry {
  #failures = 0
  #asked = 0
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** Circumstances have changed: earlier failures mean nothing any more. */
  reset(): void {
    this.#failures = 0
    this.#asked = 0
  }

  /** Milliseconds to wait. */
  after({ openMs, retryMs }: EndedConnection): number {
    if (openMs !== null && openMs >= stableMs) this.reset()
    if (retryMs === null) {
      const asked = this.#asked++
      return asked === 0 ? 0 : backoffMs(asked - 1, this.#random, askedBaseMs, askedCapMs)
    }
    const failures = this.#failures++
    if (failures === 0) return openMs === null ? this.#random() * firstMs : retryMs
    return retryMs + backoffMs(failures - 1, this.#random, baseMs, capMs)
  }
}
