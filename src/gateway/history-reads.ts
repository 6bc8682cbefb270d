import type { History, HistoryRead } from '../cluster/history.ts'
import type { Position } from '../protocol/position.ts'

/** Reads at once. After an interruption every channel wants one, and each may bring some megabytes. */
const readsAtOnce = 16

/** Reads of all channels of a gateway; those that are too many wait for their turn. */
export class HistoryReads {
  private readonly history: History
  private readonly waiting: (() => void)[] = []
  private running = 0

  constructor(history: History) {
    this.history = history
  }

  /** Rejects as `History.read` does. */
  async read(channel: string, after: Position | null): Promise<HistoryRead> {
    if (this.running >= readsAtOnce) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.running++
    try {
      return await this.history.read(channel, after)
    } finally {
      const next = this.waiting.shift()
      if (next === undefined) this.running--
      else next()
    }
  }
}
