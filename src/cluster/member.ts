import type { Bus } from './bus.ts'
import type { History } from './history.ts'
import type { MakeLimiter } from './limiter.ts'
import type { Registry } from './registry.ts'
import type { RunLogs } from './run-log.ts'
import type { SharedUpstreams } from './upstreams.ts'

/** One process's place in a cluster. */
export interface ClusterMember {
  readonly bus: Bus
  readonly history: History
  readonly registry: Registry
  readonly runs: RunLogs
  readonly upstreams: SharedUpstreams
  /** null: there is nobody to count together with. */
  readonly limiter: MakeLimiter | null
  /** Closes all of it without withdrawing; call `registry.withdraw()` before for an orderly leave. */
  close(): Promise<void>
}
