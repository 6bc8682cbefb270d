import { stat } from 'node:fs/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import {
  type Measures,
  Overload,
  type OverloadRules,
  type PressureChange,
} from '../../core/health/overload.ts'

export interface OverloadWatchOptions {
  /** Those of this moment; null: nothing is judged. */
  rules(): OverloadRules | null
  /** TCP connections of clients, where the system does not say how many descriptors are open. */
  connections(): number
  changed(change: PressureChange, measures: Measures): void
}

const lookMs = 1_000
const resolutionMs = 20

/** Measures how this process bears its load, once a second. */
export class OverloadWatch {
  private readonly options: OverloadWatchOptions
  private readonly delay = monitorEventLoopDelay({ resolution: resolutionMs })
  private readonly overload: Overload
  private readonly timer: NodeJS.Timeout
  private descriptors = 0

  constructor(options: OverloadWatchOptions) {
    this.options = options
    this.overload = new Overload(options.rules() ?? nothing)
    this.delay.enable()
    this.timer = setInterval(() => this.look(), lookMs)
    this.timer.unref()
  }

  close(): void {
    clearInterval(this.timer)
    this.delay.disable()
  }

  private look(): void {
    this.overload.rules = this.options.rules() ?? nothing
    const measures = this.measure()
    const change = this.overload.look(measures)
    if (change !== null) this.options.changed(change, measures)
    // Asked for the next look: it must not be waited for.
    void openDescriptors().then((count) => {
      this.descriptors = count ?? this.options.connections()
    })
  }

  private measure(): Measures {
    // The histogram records the time between ticks of its own timer, so the timer's period comes off.
    const lag = Math.max(0, this.delay.percentile(99) / 1e6 - resolutionMs)
    this.delay.reset()
    const { used_heap_size: used, heap_size_limit: most } = getHeapStatistics()
    return { lag, memory: process.memoryUsage.rss(), heap: used / most, descriptors: this.descriptors }
  }
}

const nothing: OverloadRules = { shed: {}, cut: {}, looksToShed: 1, looksToRecover: 1 }

/** null: this system does not say. Linux does since 6.2. */
async function openDescriptors(): Promise<number | null> {
  try {
    const { size } = await stat('/proc/self/fd')
    return size > 0 ? size : null
  } catch {
    return null
  }
}
