import type { OwnedRun } from './owned-run.ts'

const readsAtOnce = 16
const writeMs = 1
const acknowledgeMs = 50

/** What the runs of a gateway do together, because it costs less so. */
export class RunPace {
  private readonly unwritten = new Set<OwnedRun>()
  private readonly unacknowledged = new Set<OwnedRun>()
  private readonly waiting: (() => void)[] = []
  private writing: NodeJS.Timeout | null = null
  private acknowledging: NodeJS.Timeout | null = null
  private reading = 0

  /** Logs what the run has together with what others have, within a millisecond: one write to Redis for all. */
  writeLater(owned: OwnedRun): void {
    this.unwritten.add(owned)
    this.writing ??= setTimeout(() => {
      this.writing = null
      for (const one of this.unwritten) one.write()
      this.unwritten.clear()
    }, writeMs)
  }

  /** The producer is told within some milliseconds how far the log is. */
  acknowledgeLater(owned: OwnedRun): void {
    this.unacknowledged.add(owned)
    this.acknowledging ??= setTimeout(() => {
      this.acknowledging = null
      for (const one of this.unacknowledged) one.acknowledge()
      this.unacknowledged.clear()
    }, acknowledgeMs)
  }

  /** Reads of logs, as many at once as Redis should have to answer. */
  async reads<T>(read: () => Promise<T>): Promise<T> {
    if (this.reading >= readsAtOnce) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.reading++
    try {
      return await read()
    } finally {
      const next = this.waiting.shift()
      if (next === undefined) this.reading--
      else next()
    }
  }

  stop(): void {
    if (this.writing !== null) clearTimeout(this.writing)
    if (this.acknowledging !== null) clearTimeout(this.acknowledging)
  }
}
