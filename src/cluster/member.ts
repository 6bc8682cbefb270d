import type { Bus } from './bus.ts'
import type { Registry } from './registry.ts'

/** One process's place in a cluster. */
export interface ClusterMember {
  readonly bus: Bus
  readonly registry: Registry
  /** Closes both without withdrawing; call `registry.withdraw()` before for an orderly leave. */
  close(): Promise<void>
}
