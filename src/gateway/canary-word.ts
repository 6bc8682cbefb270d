import { type Canary, parseCanary } from '../core/balance/canary.ts'
import type { Seen } from '../core/health/canary-verdict.ts'

/** What a gateway tells the others of its part of a canary. It comes over the bus, where others may write too: whoever reads it checks it here. */
export interface CanaryWord {
  readonly gateway: string
  readonly canary: Canary
  readonly progress: CanaryProgress
  /** Since `watchFrom`. */
  readonly seen: { readonly canary: Seen; readonly others: Seen }
}

/** Since the gateway knows of the canary. */
export interface CanaryProgress {
  /** Sessions that were moved to the version. */
  readonly moved: number
  /** Sessions that were moved away from it. */
  readonly returned: number
  /** Moves that failed; they are tried again. */
  readonly failed: number
  /** Sessions that are to be moved. */
  readonly left: number
}

/** Longer ones are nobody's. */
const wordBytes = 8_192

export function writeCanaryWord(word: CanaryWord): Buffer {
  return Buffer.from(JSON.stringify(word))
}

/** Returns null for anything that is not a word of this version. */
export function parseCanaryWord(payload: Buffer): CanaryWord | null {
  if (payload.length > wordBytes) return null
  let value: Record<string, unknown>
  try {
    value = JSON.parse(payload.toString('utf8'))
  } catch {
    return null
  }
  if (!isObject(value)) return null
  const { gateway, canary, progress, seen } = value
  if (typeof gateway !== 'string' || gateway.length === 0 || gateway.length > 128) return null
  if (!isObject(canary) || !isObject(progress) || !isObject(seen)) return null
  const known = parseCanary(JSON.stringify(canary))
  const { moved, returned, failed, left } = progress
  if (known === null || ![moved, returned, failed, left].every(isAmount)) return null
  const [own, others] = [seenOf(seen.canary), seenOf(seen.others)]
  if (own === null || others === null) return null
  return {
    gateway,
    canary: known,
    progress: { moved, returned, failed, left } as CanaryProgress,
    seen: { canary: own, others },
  }
}

function seenOf(value: unknown): Seen | null {
  if (!isObject(value)) return null
  const { sessionMs, failures, timed, timedLog } = value
  const isSeen = [sessionMs, failures, timed, timedLog].every(isAmount)
  return isSeen ? ({ sessionMs, failures, timed, timedLog } as Seen) : null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER
}
