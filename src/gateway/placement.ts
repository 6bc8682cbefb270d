import { type Canary, isDrawn, type Sides, shareNow, sidesOf } from '../core/balance/canary.ts'
import type { Candidate } from '../core/balance/candidate.ts'
import { isEligible, warmthAt } from '../core/balance/candidate.ts'
import { clientKey, type ShownClient } from '../core/balance/client-key.ts'
import { persistentNode, type Wish } from '../core/balance/persistence.ts'
import { type Policy, placesByKey, policies } from '../core/balance/policies.ts'
import { defaultPoolRules, type PoolRules } from '../core/balance/pool-rules.ts'
import type { SessionMeta } from '../protocol/link-records.ts'
import type { NodeEntry } from './node-entry.ts'
import type { NodeTable } from './node-table.ts'
import type { Session } from './session.ts'

export interface PlacementRules {
  /** Of all pools. */
  readonly rules: Partial<PoolRules>
  /** By pool, what is different there. */
  readonly pools: ReadonlyMap<string, Partial<PoolRules>>
  readonly maxOverShare: number
}

export interface PlacementOptions extends PlacementRules {
  readonly nodes: NodeTable
  random(): number
}

interface Pool {
  readonly rules: PoolRules
  readonly policy: Policy
  /** Policies remember whose turn it is; each side of a canary has turns of its own. */
  readonly canaryPolicy: Policy
}

const byKey = policies['key-hash']()

/** Gives sessions and requests their nodes, by the rules of their pool. */
export class Placement {
  /** The canary of the pool that has one. */
  canaryOf: (pool: string) => Canary | null = () => null
  private options: PlacementOptions
  private readonly pools = new Map<string, Pool>()

  constructor(options: PlacementOptions) {
    this.options = options
  }

  /** Holds for who gets a node from now on. A pool with the same policy as before goes on with whose turn it is. */
  configure(rules: PlacementRules): void {
    this.options = { ...this.options, ...rules }
    for (const [name, before] of this.pools) {
      const after = this.rulesFor(name)
      const isSame = after.policy === before.rules.policy
      this.pools.set(name, isSame ? { ...before, rules: after } : newPool(after))
    }
  }

  rulesOf(pool: string): PoolRules {
    return this.pool(pool).rules
  }

  /** Sessions of the pool stay where their keys lead. */
  isByKey(pool: string): boolean {
    return placesByKey(this.rulesOf(pool).policy)
  }

  /** Messages of the pool are dispatched one by one. */
  isByMessage(pool: string): boolean {
    return this.rulesOf(pool).affinity === 'message'
  }

  /** The node of a client that has no session yet, none of `except`; null when none can take one. */
  choose(
    pool: string,
    wish: Wish | null,
    client: ShownClient,
    except: ReadonlySet<NodeEntry> | null,
  ): NodeEntry | null {
    const nodes = this.nodesOf(pool, except)
    const { rules } = this.pool(pool)
    const key = clientKey(rules.policy, rules.hashKey, client)
    const canary = this.canaryOf(pool)
    if (canary === null) return this.kept(nodes, wish) ?? this.pick(pool, nodes, key)
    const sides = sidesOf(nodes, canary)
    // Who always hashes to a node does so at its side; who returns to a node of the version belongs to it.
    if (wish !== null && 'key' in wish) {
      const isCanary = isDrawn(canary, wish.key)
      return (
        this.kept(isCanary ? sides.canary : sides.others, wish) ?? this.pickSide(pool, sides, isCanary, key)
      )
    }
    const kept =
      (shareNow(canary) > 0 ? this.kept(sides.canary, wish) : null) ?? this.kept(sides.others, wish)
    return kept ?? this.pickSide(pool, sides, this.options.random() < shareNow(canary), key)
  }

  /** Where the key leads, whatever the policy of the pool is. */
  chooseByKey(pool: string, key: string, except: ReadonlySet<NodeEntry>): NodeEntry | null {
    const { random } = this.options
    const nodes = this.nodesOf(pool, except) as readonly Candidate[]
    return byKey.pick(nodes, { random, key }) as NodeEntry | null
  }

  /** Where the session is to go now; null when no node can take it. */
  place(session: Session): NodeEntry | null {
    const { pool } = session
    const nodes = this.nodesOf(pool, session.avoids)
    const canary = this.canaryOf(pool)
    if (canary === null) return this.pick(pool, nodes, this.keyOf(session))
    return this.pickSide(pool, sidesOf(nodes, canary), isDrawn(canary, session.id), this.keyOf(session))
  }

  /** How warm the node is at `now`. */
  warmth(node: NodeEntry, now: number): number {
    return warmthAt(now - (node.warmSince ?? now), this.rulesOf(node.pool).slowStartMs)
  }

  private kept(nodes: readonly NodeEntry[], wish: Wish | null): NodeEntry | null {
    return wish === null ? null : (persistentNode(nodes, wish, this.options.maxOverShare) as NodeEntry | null)
  }

  /** A session without a node is worse than one at the wrong version. */
  private pickSide(
    pool: string,
    { canary, others }: Sides<NodeEntry>,
    isCanary: boolean,
    key: string | undefined,
  ): NodeEntry | null {
    const usesCanary = isCanary ? canary.some(isEligible) : !others.some(isEligible)
    return usesCanary ? this.pick(pool, canary, key, true) : this.pick(pool, others, key)
  }

  private pick(
    pool: string,
    nodes: readonly NodeEntry[],
    key: string | undefined,
    isCanary = false,
  ): NodeEntry | null {
    const { random } = this.options
    const context = key === undefined ? { random } : { random, key }
    const { policy, canaryPolicy } = this.pool(pool)
    return (isCanary ? canaryPolicy : policy).pick(nodes as readonly Candidate[], context) as NodeEntry | null
  }

  private keyOf({ pool, address, meta, key }: Session): string | undefined {
    const { policy, hashKey } = this.rulesOf(pool)
    if (policy === 'ip-hash') return address
    if (policy === 'key-hash' && key !== null) return key
    // Sessions are placed seldom; each keeping its key would cost more than reading it again.
    return policy === 'key-hash' ? clientKey(policy, hashKey, JSON.parse(meta) as SessionMeta) : undefined
  }

  private nodesOf(pool: string, except: ReadonlySet<NodeEntry> | null): readonly NodeEntry[] {
    const nodes = this.options.nodes.inPool(pool)
    return except === null || except.size === 0 ? nodes : nodes.filter((node) => !except.has(node))
  }

  private pool(name: string): Pool {
    let pool = this.pools.get(name)
    if (pool === undefined) {
      const rules = this.rulesFor(name)
      pool = newPool(rules)
      this.pools.set(name, pool)
    }
    return pool
  }

  private rulesFor(name: string): PoolRules {
    const { rules, pools } = this.options
    return { ...defaultPoolRules, ...rules, ...pools.get(name) }
  }
}

function newPool(rules: PoolRules): Pool {
  const policy = policies[rules.policy]
  return { rules, policy: policy(), canaryPolicy: policy() }
}
