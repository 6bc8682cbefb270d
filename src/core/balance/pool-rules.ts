import type { ClientKey } from './client-key.ts'
import { defaultPolicy, type PolicyName } from './policies.ts'

/** What live sessions are moved for: as many by weight at each node; as much traffic; as much of what nodes say of themselves. */
export const loadKinds = ['sessions', 'traffic', 'reported'] as const
export type LoadKind = (typeof loadKinds)[number]

/** What traffic is counted in: messages or bytes both ways, or the time in which nodes have something of a session to handle. */
export const measures = ['messages', 'bytes', 'time'] as const
export type Measure = (typeof measures)[number]

/** `session`: its messages go to one node. `message`: each goes by itself to the node that has the least in flight. */
export const affinities = ['session', 'message'] as const
export type Affinity = (typeof affinities)[number]

/** How one pool is balanced. */
export interface PoolRules {
  readonly policy: PolicyName
  /** What `key-hash` hashes. null: nothing, so any node will do. */
  readonly hashKey: ClientKey | null
  /** A new node gets its full share after so long. 0: at once. */
  readonly slowStartMs: number
  readonly load: LoadKind
  readonly measure: Measure
  /** How far from its fair share of the load a node may stay, where load is not sessions. */
  readonly loadTolerance: number
  readonly affinity: Affinity
  /** Affinity `message`: messages with the same value of this field of their JSON keep their order. null: none does. */
  readonly orderBy: string | null
}

export const defaultPoolRules: PoolRules = {
  policy: defaultPolicy,
  hashKey: null,
  slowStartMs: 0,
  load: 'sessions',
  measure: 'messages',
  loadTolerance: 0.15,
  affinity: 'session',
  orderBy: null,
}
