import type { FailCode } from '../src/core/run/events.ts'
import type { ErrorCode } from '../src/protocol/errors.ts'

/** `GAP`: a part of the run is lost. The others: why it failed, or why it could not be started or read. */
export type RunErrorCode = ErrorCode | FailCode | 'GAP'

/** Why a run was not read to its end. */
export class RunError extends Error {
  readonly code: RunErrorCode
  /** Another run with the same request may do better. */
  readonly retryable: boolean
  /** With TOO_MANY_REQUESTS: when to try again. */
  readonly retryAfterMs: number | null

  constructor(code: RunErrorCode, message: string, retryable: boolean, retryAfterMs: number | null = null) {
    super(message)
    this.name = 'RunError'
    this.code = code
    this.retryable = retryable
    this.retryAfterMs = retryAfterMs
  }
}
