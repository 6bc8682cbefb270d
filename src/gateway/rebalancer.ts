import type { ClusterMember } from '../cluster/member.ts'
import { groupsOf, planGroups } from '../core/balance/canary.ts'
import { imbalance, type Move as PlannedMove, type RebalancePlan } from '../core/balance/planner.ts'
import { splitMoves } from '../core/balance/split.ts'
import { LoadBalancer } from './load-balancer.ts'
import type { Migrator } from './migrator.ts'
import type { NodeTable } from './node-table.ts'
import type { OperationRecord, Operations } from './operations.ts'
import type { Untimed } from './operator.ts'
import type { Placement } from './placement.ts'
import { type PlanMessage, parsePlanMessage } from './plan-message.ts'
import { RebalanceRound } from './rebalance-round.ts'

export interface RebalanceOptions {
  enabled: boolean
  /** 0: only on node events and on request. */
  intervalMs: number
  tolerance: number
  maxMovesPerRound: number | null
}

export interface RebalancerContext {
  readonly gatewayId: string
  readonly nodes: NodeTable
  readonly migrator: Migrator
  readonly operations: Operations
  readonly placement: Placement
  readonly cluster: ClusterMember
  now(): number
  publish(event: Untimed): void
}

/** After a node came, went or changed, others of the same deploy often follow: one round serves them all. */
const debounceMs = 100
/** Longer than it takes until all gateways know what a round has moved; nobody else plans before. */
const leadMs = 3_000
/** The planner of a plan that is carried out stays the one who plans. */
const leadRenewMs = 1_000
/** A gateway that does not say what it moved is not waited for longer; what it still moves counts in the next plan. */
const partTimeoutMs = 10_000
/** Where load is not sessions it is looked at this often, or as often as is planned. */
const lookMs = 5_000
/** No channel of users can have this name. */
const controlTopic = '$plans'

/** A plan of this gateway, carried out by all that hold a part of it. */
interface RunningPlan {
  readonly pool: string
  readonly operation: OperationRecord
  readonly waitingFor: Set<string>
  readonly timers: readonly NodeJS.Timeout[]
}

/**
 * Brings nodes to their fair shares: periodically, when nodes change, and on request. With several gateways one plans at a time
 * for the whole cluster, and each carries out the part that it holds; when they cannot agree, each plans its own part.
 */
export class Rebalancer {
  private options: RebalanceOptions
  private readonly context: RebalancerContext
  private readonly rounds = new Map<string, RebalanceRound>()
  private readonly plans = new Map<string, RunningPlan>()
  /** Pools that changed while a plan for them was carried out. */
  private readonly postponed = new Set<string>()
  private readonly byLoad: LoadBalancer
  private interval: NodeJS.Timeout | null = null
  private looks: NodeJS.Timeout | null = null
  private debounce: NodeJS.Timeout | null = null
  private retired = false
  private stopped = false

  constructor(options: RebalanceOptions, context: RebalancerContext) {
    this.options = options
    this.context = context
    const maxMovesPerRound = () => this.options.maxMovesPerRound
    this.byLoad = new LoadBalancer({
      ...context,
      get maxMovesPerRound() {
        return maxMovesPerRound()
      },
      lead: async (pool) => this.isAlone() || (await this.lead(pool).catch(() => true)),
      resign: (pool) => void context.cluster.registry.resign(leaseOf(pool)),
      tell: (message) => this.tell(message).catch(() => {}),
    })
  }

  start(): void {
    // It rejects only when the bus is closed.
    this.context.cluster.bus.subscribe(controlTopic, (payload) => this.receive(payload)).catch(() => {})
    this.begin()
  }

  /** Plans so from now on; what is under way goes on. Also to be called when the rules of pools have changed. */
  configure(options: RebalanceOptions): void {
    const isSamePace =
      options.enabled === this.options.enabled && options.intervalMs === this.options.intervalMs
    this.options = options
    this.byLoad.reconfigured()
    // Timers that begin anew with every change might never come to their end.
    if (isSamePace || this.retired) return
    this.pause()
    this.begin()
  }

  private begin(): void {
    const { enabled, intervalMs } = this.options
    if (!enabled || intervalMs === 0) return
    this.interval = setInterval(() => void this.planAll(), intervalMs)
    this.looks = setInterval(() => this.look(), Math.min(intervalMs, lookMs))
  }

  private pause(): void {
    if (this.looks !== null) clearInterval(this.looks)
    if (this.interval !== null) clearInterval(this.interval)
    if (this.debounce !== null) clearTimeout(this.debounce)
    this.looks = null
    this.interval = null
    this.debounce = null
  }

  /** Leaves planning to the other gateways; what they plan is still carried out here. */
  retire(): void {
    this.retired = true
    this.byLoad.retire()
    this.pause()
    for (const pool of this.context.nodes.poolNames())
      void this.context.cluster.registry.resign(leaseOf(pool))
  }

  stop(): void {
    this.retire()
    this.stopped = true
    this.byLoad.stop()
    for (const { timers } of this.plans.values()) for (const timer of timers) clearTimeout(timer)
  }

  /** Something changed: plan once it is quiet. */
  soon(): void {
    if (!this.options.enabled || this.retired) return
    this.debounce ??= setTimeout(() => {
      this.debounce = null
      for (const pool of this.context.nodes.poolNames()) if (this.isBusy(pool)) this.postponed.add(pool)
      void this.planAll()
    }, debounceMs)
  }

  /** Plans for one pool and, unless `dryRun`, begins the round; a round that is under way is replaced. */
  rebalance(pool: string, dryRun: boolean): { plan: RebalancePlan; operation: OperationRecord | null } {
    const { placement } = this.context
    if (!this.movesForBalance(pool)) {
      const before = imbalance(this.context.nodes.inPool(pool).map(({ planned }) => planned))
      return {
        plan: { moves: [], total: 0, imbalanceBefore: before, imbalanceAfter: before },
        operation: null,
      }
    }
    if (placement.rulesOf(pool).load !== 'sessions') return this.byLoad.rebalance(pool, dryRun)
    const { tolerance, maxMovesPerRound } = this.options
    const limits = maxMovesPerRound === null ? { tolerance } : { tolerance, maxMoves: maxMovesPerRound }
    const groups = groupsOf(this.context.nodes.inPool(pool), placement.canaryOf(pool))
    const plan = planGroups(
      groups.map((group) => group.map(({ planned }) => planned)),
      limits,
    )
    if (dryRun || plan.moves.length === 0) return { plan, operation: null }
    const operation = this.context.operations.start('rebalance', pool, plan.total)
    const { moves, imbalanceBefore, imbalanceAfter } = plan
    this.context.publish({ type: 'plan', pool, moves, imbalanceBefore, imbalanceAfter })
    this.execute(pool, plan.moves, operation)
    return { plan, operation }
  }

  private async planAll(): Promise<void> {
    const alone = this.isAlone()
    for (const pool of this.context.nodes.poolNames()) {
      const bySessions =
        this.movesForBalance(pool) && this.context.placement.rulesOf(pool).load === 'sessions'
      if (!bySessions || this.isBusy(pool)) continue
      // Without the store nobody can be asked: each gateway then plans for all and does its own part.
      const leads = alone || (await this.lead(pool).catch(() => true))
      if (leads && !this.retired && !this.isBusy(pool)) this.rebalance(pool, false)
    }
  }

  /** Sessions that were placed by a key, or are at all nodes, are where they belong. */
  private movesForBalance(pool: string): boolean {
    const { placement } = this.context
    return !placement.isByKey(pool) && placement.rulesOf(pool).affinity === 'session'
  }

  private look(): void {
    const { nodes, placement } = this.context
    for (const pool of nodes.poolNames())
      if (this.movesForBalance(pool) && placement.rulesOf(pool).load !== 'sessions')
        void this.byLoad.look(pool)
  }

  private isAlone(): boolean {
    return !this.context.nodes.all().some((node) => node.others.size > 0)
  }

  private tell(message: PlanMessage): Promise<void> {
    return this.context.cluster.bus.publish(controlTopic, Buffer.from(JSON.stringify(message)), true)
  }

  private lead(pool: string): Promise<boolean> {
    return this.context.cluster.registry.lead(leaseOf(pool), leadMs)
  }

  /** A plan for the pool is carried out, here or at other gateways: what it will have moved is not to be planned again. */
  private isBusy(pool: string): boolean {
    return this.rounds.has(pool) || [...this.plans.values()].some((plan) => plan.pool === pool)
  }

  private settled(pool: string): void {
    if (!this.isBusy(pool) && this.postponed.delete(pool)) this.soon()
  }

  /** Carries out the own part and tells the others theirs. */
  private execute(pool: string, moves: readonly PlannedMove[], operation: OperationRecord): void {
    const { gatewayId } = this.context
    const parts = splitMoves(moves, (id) => this.holders(id))
    const waitingFor = new Set(parts.keys())
    const others = [...parts].filter(([gateway]) => gateway !== gatewayId)
    const timers = others.length > 0 ? this.waitForOthers(pool, operation.id) : []
    this.plans.set(operation.id, { pool, operation, waitingFor, timers })
    if (others.length > 0) {
      const message: PlanMessage = {
        type: 'plan',
        planner: gatewayId,
        operation: operation.id,
        pool,
        parts: Object.fromEntries(others),
      }
      this.tell(message).catch(() => {
        for (const [gateway] of others) this.partEnded(operation.id, gateway, 0)
      })
    }
    this.carryOut(pool, parts.get(gatewayId) ?? [], operation, () =>
      this.partEnded(operation.id, gatewayId, 0),
    )
    if (waitingFor.size === 0) this.finish(operation.id)
  }

  private waitForOthers(pool: string, operation: string): NodeJS.Timeout[] {
    const giveUp = () => {
      const late = [...(this.plans.get(operation)?.waitingFor ?? [])]
      for (const gateway of late)
        if (gateway !== this.context.gatewayId) this.partEnded(operation, gateway, 0)
    }
    const renew = () => {
      if (!this.retired) this.lead(pool).catch(() => {})
    }
    return [setTimeout(giveUp, partTimeoutMs), setInterval(renew, leadRenewMs)]
  }

  private holders(id: string): ReadonlyMap<string, number> {
    const node = this.context.nodes.get(id)
    if (node === undefined) return new Map()
    return new Map([...node.others, [this.context.gatewayId, node.assigned.size - node.outgoing]])
  }

  private carryOut(
    pool: string,
    moves: readonly PlannedMove[],
    operation: OperationRecord,
    ended: () => void,
  ): void {
    this.rounds.get(pool)?.cancel()
    const round = new RebalanceRound(moves, operation, {
      migrator: this.context.migrator,
      node: (id) => this.context.nodes.get(id),
      ended: () => {
        if (this.rounds.get(pool) === round) this.rounds.delete(pool)
        ended()
        this.settled(pool)
      },
    })
    this.rounds.set(pool, round)
    round.start()
  }

  private receive(payload: Buffer): void {
    const message = parsePlanMessage(payload)
    const { gatewayId, operations } = this.context
    // Junk, or not for us.
    if (message === null || this.stopped) return
    if (message.type === 'loads') {
      if (message.gateway !== gatewayId) this.byLoad.told(message)
      return
    }
    if (message.type === 'part-ended') {
      if (message.planner === gatewayId) this.partEnded(message.operation, message.gateway, message.moved)
      return
    }
    const part = message.parts[gatewayId]
    if (message.planner === gatewayId || part === undefined) return
    const total = part.reduce((sum, { count }) => sum + count, 0)
    const operation = operations.start('rebalance', message.pool, total)
    this.carryOut(message.pool, part, operation, () => {
      operation.end('done')
      const answer: PlanMessage = {
        type: 'part-ended',
        planner: message.planner,
        operation: message.operation,
        gateway: gatewayId,
        moved: operation.moved,
      }
      this.tell(answer).catch(() => {})
    })
  }

  private partEnded(operation: string, gateway: string, moved: number): void {
    const plan = this.plans.get(operation)
    if (plan === undefined || !plan.waitingFor.delete(gateway)) return
    plan.operation.movedElsewhere += moved
    if (plan.waitingFor.size === 0) this.finish(operation)
  }

  private finish(operation: string): void {
    const plan = this.plans.get(operation)
    if (plan === undefined) return
    for (const timer of plan.timers) clearTimeout(timer)
    this.plans.delete(operation)
    plan.operation.end('done')
    this.settled(plan.pool)
  }
}

function leaseOf(pool: string): string {
  return `rebalance.${pool}`
}
