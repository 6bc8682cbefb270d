export type LinkHealth = 'healthy' | 'suspect' | 'down'

export interface HeartbeatTimes {
  suspectMs: number
  downMs: number
}

/** Judges a link by how long nothing came over it. */
export function judgeSilence(silentMs: number, { suspectMs, downMs }: HeartbeatTimes): LinkHealth {
  if (silentMs >= downMs) return 'down'
  return silentMs >= suspectMs ? 'suspect' : 'healthy'
}

/**
 * Tells a silent peer from a stalled self. A process that was stopped, or whose event loop was blocked, finds all
 * its peers silent; what they sent meanwhile waits unread in its sockets. A tick that comes late by more than
 * `toleranceMs` therefore starts all counting anew.
 */
export class StallDetector {
  private expectedAt: number | null = null
  private readonly intervalMs: number
  private readonly toleranceMs: number

  constructor(intervalMs: number, toleranceMs: number) {
    this.intervalMs = intervalMs
    this.toleranceMs = toleranceMs
  }

  /** To be called at every tick. Returns true when this process itself was stalled. */
  tick(nowMs: number): boolean {
    const late = this.expectedAt === null ? 0 : nowMs - this.expectedAt
    this.expectedAt = nowMs + this.intervalMs
    return late > this.toleranceMs
  }

  /** The next tick is overdue: what has timed out now, may have been answered in time. */
  isLate(nowMs: number): boolean {
    return this.expectedAt !== null && nowMs - this.expectedAt > this.toleranceMs
  }
}
