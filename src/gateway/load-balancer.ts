import type { ClusterMember } from '../cluster/member.ts'
import { groupsOf, joined } from '../core/balance/canary.ts'
import { Hysteresis } from '../core/balance/hysteresis.ts'
import { LoadMeter } from '../core/balance/load-meter.ts'
import type { Move as PlannedMove, RebalancePlan } from '../core/balance/planner.ts'
import {
  type LoadedNode,
  planTraffic,
  type TrafficPlan,
  type TrafficPlanOptions,
} from '../core/balance/traffic-planner.ts'
import type { Migrator } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { NodeTable } from './node-table.ts'
import type { OperationRecord, Operations } from './operations.ts'
import type { Untimed } from './operator.ts'
import type { Placement } from './placement.ts'
import type { PlanMessage } from './plan-message.ts'
import type { Session } from './session.ts'
import { SessionRound } from './session-round.ts'

export interface LoadBalancerContext {
  readonly gatewayId: string
  readonly nodes: NodeTable
  readonly migrator: Migrator
  readonly operations: Operations
  readonly placement: Placement
  readonly cluster: ClusterMember
  readonly maxMovesPerRound: number | null
  now(): number
  publish(event: Untimed): void
  /** Asks for the lease of the pool; true while nobody can be asked. */
  lead(pool: string): Promise<boolean>
  resign(pool: string): void
  tell(message: PlanMessage): void
}

/** What another gateway's sessions make at the nodes. */
interface PeerLoads {
  readonly at: number
  readonly loads: ReadonlyMap<string, number>
}

interface LoadedSession {
  readonly session: Session
  readonly load: number
}

interface Pool {
  readonly name: string
  readonly hysteresis: Hysteresis<Session>
  readonly peers: Map<string, PeerLoads>
  round: SessionRound | null
  /** Nodes say late what a round has changed; they are not listened to before. */
  quietUntil: number
  lookedAt: number
}

/** A larger plan would be old before it is carried out; the next one goes on. */
const movesMax = 5_000
/** What a gateway said longer ago counts no more. */
const peerMs = 30_000
/** After a round, until what nodes report can be believed to know of it. */
const reportedQuietMs = 30_000
/** While a round is carried out the lease is kept. */
const leadRenewMs = 1_000

/**
 * Moves sessions for what they make, not for how many they are. Each gateway knows its own sessions, and the others tell it what theirs make at each
 * node; one at a time moves some of its own, then lets the next one.
 */
export class LoadBalancer {
  private readonly context: LoadBalancerContext
  private readonly pools = new Map<string, Pool>()
  private stopped = false

  constructor(context: LoadBalancerContext) {
    this.context = context
  }

  /** The rules of pools have changed. */
  reconfigured(): void {
    for (const { name, hysteresis } of this.pools.values())
      hysteresis.tolerance = this.context.placement.rulesOf(name).loadTolerance
  }

  /** Plans no more. What is under way goes on. */
  retire(): void {
    this.stopped = true
  }

  stop(): void {
    this.stopped = true
    for (const { round } of this.pools.values()) round?.cancel()
  }

  isBusy(pool: string): boolean {
    return this.pools.get(pool)?.round != null
  }

  /** Measures, tells the others, and begins a round when the pool has been uneven for two looks. */
  async look(name: string): Promise<void> {
    const pool = this.pool(name)
    const { context } = this
    const now = context.now()
    if (pool.round !== null || now - pool.lookedAt < shortestLookMs) return
    pool.lookedAt = now
    const nodes = this.measure(pool, false)
    this.tellOwn(pool, nodes, false)
    if (nodes === null || now < pool.quietUntil) return
    if (!pool.hysteresis.look(this.plan(pool, nodes, { maxMoves: 0 }).imbalanceBefore)) return
    if (!(await context.lead(name)) || this.stopped || pool.round !== null) return
    if (this.rebalance(name, false, true).operation === null) context.resign(name)
  }

  /** Plans now; carries it out unless `dryRun`. `ifWorth`: only when it is worth it. */
  rebalance(
    name: string,
    dryRun: boolean,
    ifWorth = false,
  ): { plan: RebalancePlan; operation: OperationRecord | null } {
    const pool = this.pool(name)
    const nodes = this.measure(pool, true)
    if (nodes === null) return { plan: emptyPlan, operation: null }
    const { operations } = this.context
    const maxMoves = Math.min(this.context.maxMovesPerRound ?? movesMax, movesMax)
    const leastPart = ifWorth && pool.peers.size > 0 ? pool.hysteresis.leastPart : 0
    const found = this.plan(pool, nodes, { tolerance: pool.hysteresis.target, leastPart, maxMoves })
    const plan = summary(found)
    const isVain = found.moves.length === 0 || (ifWorth && !pool.hysteresis.isWorthIt(found))
    if (dryRun || isVain) return { plan, operation: null }
    const operation = operations.start('rebalance', name, plan.total)
    const { moves, imbalanceBefore, imbalanceAfter } = plan
    this.context.publish({ type: 'plan', pool: name, moves, imbalanceBefore, imbalanceAfter })
    this.execute(pool, found, operation)
    return { plan, operation }
  }

  /** Another gateway says what its sessions make. */
  told({ gateway, pool: name, loads, moved }: Extract<PlanMessage, { type: 'loads' }>): void {
    if (this.context.placement.rulesOf(name).load === 'sessions') return
    const pool = this.pool(name)
    pool.peers.set(gateway, { at: this.context.now(), loads: new Map(Object.entries(loads)) })
    if (moved) this.settle(pool)
  }

  /** Each side of a canary by itself; the bound of moves is for each. */
  private plan(
    { name }: Pool,
    loaded: readonly LoadedNode<LoadedSession>[],
    options: TrafficPlanOptions,
  ): TrafficPlan<LoadedSession> {
    const groups = groupsOf(this.context.nodes.inPool(name), this.context.placement.canaryOf(name))
    const plans = groups.map((group) => {
      const ids = new Set(group.map(({ id }) => id))
      return planTraffic(
        loaded.filter(({ candidate }) => ids.has(candidate.id)),
        options,
      )
    })
    return { ...joined(plans), moves: plans.flatMap(({ moves }) => moves) }
  }

  private execute(pool: Pool, { moves }: TrafficPlan<LoadedSession>, operation: OperationRecord): void {
    const { context } = this
    pool.round?.cancel()
    const named = moves.flatMap(({ session: { session }, to }) => {
      const target = context.nodes.get(to)
      return target === undefined ? [] : [{ session, to: target }]
    })
    const renewal = setInterval(() => void context.lead(pool.name), leadRenewMs)
    const round = new SessionRound(named, operation, {
      migrator: context.migrator,
      moved: (session) => pool.hysteresis.moved(session, context.now()),
      ended: () => {
        clearInterval(renewal)
        if (pool.round === round) pool.round = null
        operation.end('done')
        this.settle(pool)
        this.tellOwn(pool, this.measure(pool, true), true)
        context.resign(pool.name)
      },
    })
    pool.round = round
    round.start()
  }

  private settle(pool: Pool): void {
    const { now, placement } = this.context
    pool.hysteresis.settle()
    if (placement.rulesOf(pool.name).load === 'reported') pool.quietUntil = now() + reportedQuietMs
  }

  /** null: not all nodes report what they carry. */
  private measure(pool: Pool, onlyRead: boolean): LoadedNode<LoadedSession>[] | null {
    const nodes = this.context.nodes.inPool(pool.name)
    return this.context.placement.rulesOf(pool.name).load === 'reported'
      ? this.reported(pool, nodes)
      : this.traffic(pool, nodes, onlyRead)
  }

  private traffic(pool: Pool, nodes: readonly NodeEntry[], onlyRead: boolean): LoadedNode<LoadedSession>[] {
    const { measure } = this.context.placement.rulesOf(pool.name)
    const now = this.context.now()
    const sessions = new Map<NodeEntry, LoadedSession[]>(nodes.map((node) => [node, []]))
    const own = new Map<NodeEntry, number>()
    for (const node of nodes) {
      for (const session of node.assigned) {
        session.meter ??= new LoadMeter(now)
        const load = onlyRead ? session.meter.rate(measure) : session.meter.look(measure, now)
        // A session that is moving counts where it goes.
        const place = session.move?.to ?? node
        own.set(place, (own.get(place) ?? 0) + load)
        sessions.get(node)!.push({ session, load })
      }
    }
    return nodes.map((node) => {
      node.ownLoad = own.get(node) ?? 0
      node.load = node.ownLoad + this.peersLoad(pool, node.id, now)
      return this.loaded(pool, node, node.load, () => sessions.get(node)!)
    })
  }

  private reported(pool: Pool, nodes: readonly NodeEntry[]): LoadedNode<LoadedSession>[] | null {
    for (const node of nodes) node.load = node.reportedLoad
    if (nodes.some(({ active, reportedLoad }) => active && reportedLoad === null)) return null
    return nodes.map((node) => {
      const load = node.reportedLoad ?? 0
      const each = node.total === 0 ? 0 : load / node.total
      return this.loaded(pool, node, load, () =>
        [...node.assigned].map((session) => ({ session, load: each })),
      )
    })
  }

  private loaded(
    pool: Pool,
    node: NodeEntry,
    load: number,
    sessions: () => LoadedSession[],
  ): LoadedNode<LoadedSession> {
    const now = this.context.now()
    return {
      candidate: node.planned,
      load,
      movable: () =>
        sessions().filter(
          ({ session }) =>
            session.movable &&
            session.move === null &&
            session.closing === null &&
            !pool.hysteresis.rests(session, now),
        ),
    }
  }

  private peersLoad(pool: Pool, node: string, now: number): number {
    let sum = 0
    for (const [gateway, { at, loads }] of pool.peers) {
      if (now - at > peerMs) pool.peers.delete(gateway)
      else sum += loads.get(node) ?? 0
    }
    return sum
  }

  private tellOwn(pool: Pool, nodes: readonly unknown[] | null, moved: boolean): void {
    const { cluster, gatewayId, placement } = this.context
    const others = cluster.registry.entries().some(({ kind, id }) => kind === 'gateway' && id !== gatewayId)
    if (nodes === null || !others) return
    const isTraffic = placement.rulesOf(pool.name).load === 'traffic'
    const own = this.context.nodes.inPool(pool.name).filter(({ ownLoad }) => isTraffic && ownLoad > 0)
    const loads = Object.fromEntries(own.map(({ id, ownLoad }) => [id, Math.round(ownLoad * 100) / 100]))
    if (isTraffic || moved)
      this.context.tell({ type: 'loads', gateway: gatewayId, pool: pool.name, loads, moved })
  }

  private pool(name: string): Pool {
    let pool = this.pools.get(name)
    if (pool === undefined) {
      const hysteresis = new Hysteresis<Session>(this.context.placement.rulesOf(name).loadTolerance)
      pool = {
        name,
        hysteresis,
        peers: new Map(),
        round: null,
        quietUntil: 0,
        lookedAt: Number.NEGATIVE_INFINITY,
      }
      this.pools.set(name, pool)
    }
    return pool
  }
}

/** A look sooner after the last one would say the same. */
const shortestLookMs = 900

const emptyPlan: RebalancePlan = { moves: [], total: 0, imbalanceBefore: 0, imbalanceAfter: 0 }

/** For operators: how many go from where to where. */
function summary({ moves, imbalanceBefore, imbalanceAfter }: TrafficPlan<LoadedSession>): RebalancePlan {
  const counts = new Map<string, PlannedMove>()
  for (const { from, to } of moves) {
    const key = `${from}\n${to}`
    const known = counts.get(key)
    if (known === undefined) counts.set(key, { from, to, count: 1 })
    else known.count++
  }
  const sorted = [...counts.values()].sort((a, b) => b.count - a.count)
  return { moves: sorted, total: moves.length, imbalanceBefore, imbalanceAfter }
}
