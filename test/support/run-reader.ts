import { setImmediate as turn } from 'node:timers/promises'
import { isTerminal, type PlacedEvent, type RunEvent } from '../../src/core/run/events.ts'
import { Transcript } from '../../src/core/run/merge.ts'
import type {
  OpenedReader,
  ReaderOptions,
  RunBatch,
  RunReader,
  RunService,
} from '../../src/gateway/run-types.ts'
import { until, type Waiting } from './until.ts'

/** What a run's client keeps: its text, and where it is. Judges offsets. */
export class RunTranscript extends Transcript {
  offset: string | null = null
  terminal: RunEvent | null = null

  take({ offset, event }: PlacedEvent): void {
    if (this.terminal !== null) throw new Error(`${event.type} behind the end`)
    this.add(event)
    this.offset = offset
    if (isTerminal(event)) this.terminal = event
  }
}

/** A reader in this process. */
export class TestReader extends RunTranscript {
  readonly batches: RunBatch[] = []
  heartbeats = 0
  closed: 'ended' | 'away' | null = null
  opened: OpenedReader | null = null
  /** False: every write is too much. */
  takes = true
  readonly looks = new Set<() => void>()

  static async open(
    runs: RunService,
    run: string,
    after: string | null = null,
    options: ReaderOptions & { takes?: boolean } = {},
  ): Promise<TestReader> {
    const reader = new TestReader()
    reader.takes = options.takes ?? true
    reader.opened = await runs.openReader(run, after, reader.sink, options)
    return reader
  }

  readonly sink = {
    write: (batch: RunBatch) => {
      this.batches.push(batch)
      for (const placed of batch.events) this.take(placed)
      this.look()
      return this.takes
    },
    heartbeat: () => {
      this.heartbeats++
      this.look()
    },
    close: (reason: 'ended' | 'away') => {
      this.closed = reason
      this.look()
    },
  }

  get handle(): RunReader {
    if (this.opened === null || !('reader' in this.opened)) throw new Error('it was not opened')
    return this.opened.reader
  }

  async until(condition: () => boolean, waiting?: Waiting): Promise<void> {
    await until(condition, this.looks, waiting)
  }

  async ended(): Promise<RunEvent> {
    await this.until(() => this.closed !== null, { what: 'the end of the run' })
    await turn()
    if (this.terminal === null) throw new Error(`closed (${this.closed}) without a terminal event`)
    return this.terminal
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}
