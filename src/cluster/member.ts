import type { Bus } from './bus.ts'
import type { History } from './history.ts'
import type { Registry } from './registry.ts'

/** One process's place in a cluster. */
export interface ClusterMember {
  readonly bus: Bus
  readonly history: History
  readonly registry: Registry
  /** Closes all of it without withdrawing; call `registry.withdraw()` before for an orderly leave. */
  close(): Promise<void>
}
