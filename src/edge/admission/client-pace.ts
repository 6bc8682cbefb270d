import { type MessagePace, outOfPatience } from '../../core/limits/message-pace.ts'
import type { LimitScope } from '../../core/limits/rules.ts'
import { CloseCode } from '../../protocol/close-codes.ts'

/** A connection whose client can be kept from sending. */
export interface Paced {
  /** Reads nothing for so many milliseconds, as far as its transport allows that. */
  holdBack(ms: number): void
  close(code: number, reason: string): void
}

export interface ScopedPace {
  readonly scope: LimitScope
  readonly pace: MessagePace
}

/** How fast one client may send: by itself, and together with others of its address, its user, its route. */
export class ClientPace {
  private paces: readonly ScopedPace[]
  private readonly now: () => number
  private readonly refused: (scope: LimitScope) => void
  private isOver = false

  constructor(paces: readonly ScopedPace[], now: () => number, refused: (scope: LimitScope) => void) {
    this.paces = paces
    this.now = now
    this.refused = refused
  }

  add(paces: readonly ScopedPace[]): void {
    this.paces = [...this.paces, ...paces]
  }

  /** A message has come. Returns false when it is not to be taken: the connection is being closed. */
  takes(connection: Paced): boolean {
    if (this.isOver) return false
    const waitMs = this.take()
    if (waitMs === 0) return true
    if (waitMs > 0) {
      connection.holdBack(waitMs)
      return true
    }
    connection.close(CloseCode.tooFast, 'the client sends more messages than it may')
    return false
  }

  /** As `MessagePace.take`, for all of them. */
  take(): number {
    const now = this.now()
    let waitMs = 0
    for (const { scope, pace } of this.paces) {
      const ms = pace.take(now)
      if (ms === outOfPatience) {
        this.isOver = true
        this.refused(scope)
        return ms
      }
      if (ms > waitMs) waitMs = ms
    }
    return waitMs
  }

  /** Milliseconds until a message would be within all of them. */
  waitMs(): number {
    const now = this.now()
    return this.paces.reduce((longest, { pace }) => Math.max(longest, pace.waitMs(now)), 0)
  }
}
