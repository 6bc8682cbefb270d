import { randomBytes } from 'node:crypto'
import { imbalance } from '../core/balance/planner.ts'
import { type PickContext, type Policy, type PolicyName, policies } from '../core/balance/policies.ts'
import type { Link, LinkHandlers } from '../link/link.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import { type Hello, RecordType, type SessionMeta } from '../protocol/link-records.ts'
import type { ClientConnection } from './client-connection.ts'
import { Drain, type DrainContext } from './drainer.ts'
import { linkHandlers, zombieHandlers } from './link-records.ts'
import { Migrator, type MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import { NodeTable } from './node-table.ts'
import { Operations } from './operations.ts'
import type { Counters, OperatorEvent } from './operator.ts'
import { planFor, type RebalanceContext, RebalanceRound } from './rebalancer.ts'
import { Session } from './session.ts'

export interface GatewayOptions {
  id: string
  limits: Readonly<Limits>
  policy: PolicyName
  rebalance: {
    enabled: boolean
    /** 0: only on node events and on request. */
    intervalMs: number
    tolerance: number
    maxMovesPerRound: number | null
  }
  /** Monotonic milliseconds. Default: `performance.now`. */
  now?: () => number
  random?: () => number
}

type Untimed<T> = T extends { at: number } ? Omit<T, 'at'> : never

/** After a node came, went or changed, others of the same deploy often follow: one round serves them all. */
const rebalanceDebounceMs = 100
const maintenanceMs = 1_000

/**
 * The heart of one gateway process: sessions, their nodes, and what moves them. Knows no socket; the edge brings
 * connections, the link brings nodes.
 */
export class Gateway {
  readonly id: string
  readonly startedAt = Date.now()
  readonly limits: Readonly<Limits>
  readonly counters: Counters = {
    connections: { websocket: 0, sse: 0 },
    messagesIn: 0,
    messagesOut: 0,
    messagesLost: 0,
    messagesDuplicated: 0,
    messagesRedelivered: 0,
    staleFramesDropped: 0,
    backpressurePauses: 0,
    slowConsumersClosed: 0,
  }
  readonly nodes: NodeTable
  readonly operations: Operations
  readonly migrator: Migrator
  readonly sessions = new Map<number, Session>()
  readonly sessionsById = new Map<string, Session>()
  stopping = false
  readonly now: () => number
  private readonly options: GatewayOptions
  private readonly policyByPool = new Map<string, Policy>()
  private readonly waiting = new Set<Session>()
  private readonly drains = new Map<NodeEntry, Drain>()
  private readonly rounds = new Map<string, RebalanceRound>()
  private readonly listeners = new Set<(event: OperatorEvent) => void>()
  private readonly nodeWaiters = new Set<() => void>()
  private readonly timers: NodeJS.Timeout[] = []
  private readonly pickContext: PickContext
  private lastNumber = 0
  private rebalanceTimer: NodeJS.Timeout | null = null

  constructor(options: GatewayOptions) {
    this.options = options
    this.id = options.id
    this.limits = options.limits
    this.now = options.now ?? (() => performance.now())
    this.pickContext = { random: options.random ?? Math.random }
    this.operations = new Operations((operation) => this.publish({ type: 'operation', operation }))
    this.nodes = new NodeTable(options.limits, {
      suspect: (node) => this.publish({ type: 'node-suspect', node: node.id }),
      healthy: (node) => this.publish({ type: 'node-healthy', node: node.id }),
      down: (node, reason) => this.nodeDown(node, reason),
    })
    this.migrator = new Migrator({
      window: options.limits.migrationWindow,
      movesPerSecond: options.limits.migrationsPerSecond,
      prepareMs: options.limits.prepareMs,
      quiesceMs: options.limits.quiesceMs,
      now: this.now,
      onResult: (result) => this.moveEnded(result),
    })
  }

  start(): void {
    this.timers.push(setInterval(() => this.nodes.tick(this.now()), this.nodes.tickMs))
    this.timers.push(setInterval(() => this.maintain(), maintenanceMs))
    const { enabled, intervalMs } = this.options.rebalance
    if (enabled && intervalMs > 0) this.timers.push(setInterval(() => this.rebalanceAll(), intervalMs))
  }

  /** Closes every client with 1012. The caller closes links and listeners. */
  stop(): void {
    this.stopping = true
    for (const timer of this.timers) clearInterval(timer)
    if (this.rebalanceTimer !== null) clearTimeout(this.rebalanceTimer)
    this.migrator.stop()
    for (const session of [...this.sessions.values()]) {
      session.closeClient(CloseCode.serviceRestart, 'the gateway stops')
      if (session.node === null) session.end()
    }
    for (const wake of this.nodeWaiters) wake()
  }

  // For the edge.

  /** True when a session of this pool would get a node now. */
  canAssign(pool: string): boolean {
    return !this.stopping && this.pick(pool) !== null
  }

  /** Waits up to `limits.waitForNodeMs` for a node. Throws DRAINING, NO_NODE. */
  async waitForNode(pool: string): Promise<void> {
    const until = this.now() + this.limits.waitForNodeMs
    for (;;) {
      if (this.stopping)
        throw new EvenkeelError('DRAINING', 'the gateway stops; try again, another one will answer')
      if (this.canAssign(pool)) return
      const leftMs = until - this.now()
      if (leftMs <= 0)
        throw new EvenkeelError('NO_NODE', `no node of pool ${pool} can take a session now; try again later`)
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer)
          this.nodeWaiters.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, leftMs)
        this.nodeWaiters.add(wake)
      })
    }
  }

  /** A client is connected: it gets a session and a node, or is held until there is one. */
  openSession(pool: string, meta: Omit<SessionMeta, 'id'>, connection: ClientConnection): Session {
    const id = randomBytes(16).toString('base64url')
    const number = this.nextNumber()
    const session = new Session(this, number, id, pool, asciiJson({ id, ...meta }), meta.address, connection)
    this.sessions.set(number, session)
    this.sessionsById.set(id, session)
    this.counters.connections[connection.transport]++
    this.recover(session)
    return session
  }

  // For the link.

  /** Throws CONFLICT when the id is live. */
  nodeJoined(hello: Hello, link: Link): { handlers: LinkHandlers; joined(): void } {
    const node = this.nodes.join(hello, link)
    return {
      handlers: linkHandlers(this, node),
      joined: () => {
        link.ping()
        this.publish({ type: 'node-up', node: node.id, pool: node.pool })
        this.nodesChanged()
      },
    }
  }

  /** A node asks to be drained before it leaves. */
  nodeLeaves(node: NodeEntry): void {
    if (node.state === 'active') this.startDrain(node, this.limits.drainDeadlineMs, null)
    else if (node.state === 'drained') node.link.put(RecordType.drained, 0, 0, 0)
  }

  linkClosed(node: NodeEntry, code: number, reason: string): void {
    const wasDrained = node.state === 'drained'
    this.nodes.lose(node, `link closed: ${code}${reason === '' ? '' : ` ${reason}`}`)
    if (wasDrained) this.nodes.remove(node)
  }

  /** The node refused a session that was opened on it. */
  refused(session: Session, node: NodeEntry): void {
    node.refusing = true
    const { move } = session
    session.refused()
    move?.step('source-refused')
    this.recover(session)
  }

  reported(node: NodeEntry): void {
    if (!node.refusing) return
    node.refusing = false
    this.nodesChanged()
  }

  // For sessions.

  ended(session: Session): void {
    this.sessions.delete(session.number)
    this.sessionsById.delete(session.id)
    this.waiting.delete(session)
    this.counters.connections[session.transport]--
  }

  // For operators.

  startDrain(node: NodeEntry, deadlineMs: number, ratePerSecond: number | null) {
    const known = this.drains.get(node)
    if (known !== undefined) return known.operation
    const operation = this.operations.start('drain', node.id, node.assigned.size)
    const drain = new Drain(node, operation, this.drainContext, deadlineMs, ratePerSecond)
    this.drains.set(node, drain)
    this.publish({ type: 'node-state', node: node.id, state: 'draining' })
    for (const move of [...node.incoming]) move.step('cancelled')
    drain.start()
    return operation
  }

  activate(node: NodeEntry): void {
    this.drains.get(node)?.finish('cancelled')
    if (node.state === 'active') return
    node.state = 'active'
    this.publish({ type: 'node-state', node: node.id, state: 'active' })
    this.nodesChanged()
  }

  setWeight(node: NodeEntry, weight: number): void {
    node.weight = weight
    this.publish({ type: 'node-weight', node: node.id, weight })
    this.nodesChanged()
  }

  /** Plans for one pool and, unless `dryRun`, begins the round; a round that is under way is replaced. */
  rebalance(pool: string, dryRun: boolean) {
    const plan = planFor(pool, this.rebalanceContext)
    if (dryRun || plan.moves.length === 0) return { plan, operation: null }
    this.rounds.get(pool)?.finish('cancelled')
    const operation = this.operations.start('rebalance', pool, plan.total)
    const { moves, imbalanceBefore, imbalanceAfter } = plan
    this.publish({ type: 'plan', pool, moves, imbalanceBefore, imbalanceAfter })
    const round = new RebalanceRound(pool, plan, operation, this.rebalanceContext)
    this.rounds.set(pool, round)
    round.start()
    return { plan, operation }
  }

  migrate(session: Session, target: NodeEntry) {
    const operation = this.operations.start('migrate', session.id, 1)
    this.migrator.start(session, target, {
      reason: 'operator',
      ownBudget: true,
      next: () => null,
      result: (result) => {
        operation.add(result)
        operation.end(result.moved ? 'done' : 'failed')
        this.rebalanceSoon()
      },
    })
    return operation
  }

  imbalanceOf(pool: string): number {
    return imbalance(this.nodes.inPool(pool))
  }

  publish(event: Untimed<OperatorEvent>): void {
    const timed = { at: Date.now(), ...event } as OperatorEvent
    for (const listener of this.listeners) listener(timed)
  }

  onEvent(listener: (event: OperatorEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  // Inside.

  /** Gives the session to a node at its last commit, or lets it wait for one. */
  private recover(session: Session): void {
    const node = this.pick(session.pool)
    if (node !== null) {
      this.waiting.delete(session)
      session.open(node)
      return
    }
    session.waitingSince ??= this.now()
    this.waiting.add(session)
  }

  private pick(pool: string): NodeEntry | null {
    let policy = this.policyByPool.get(pool)
    if (policy === undefined) {
      policy = policies[this.options.policy]()
      this.policyByPool.set(pool, policy)
    }
    return policy.pick(this.nodes.inPool(pool), this.pickContext) as NodeEntry | null
  }

  private nodeDown(node: NodeEntry, reason: string): void {
    if (!node.link.closed) node.link.handlers = zombieHandlers(this, node)
    this.publish({ type: 'node-down', node: node.id, reason, sessions: node.assigned.size })
    this.drains.get(node)?.finish(node.assigned.size === 0 ? 'done' : 'failed')
    for (const move of [...node.incoming]) move.step('target-lost')
    for (const session of [...node.assigned]) {
      if (session.move !== null) {
        session.move.step('source-lost')
      } else {
        session.unassign(true)
        this.recover(session)
      }
    }
    this.rebalanceSoon()
  }

  private nodesChanged(): void {
    for (const session of this.waiting) this.recover(session)
    for (const wake of this.nodeWaiters) wake()
    this.migrator.pump()
    this.rebalanceSoon()
  }

  private moveEnded({ session, from, to, reason, outcome, moved, pauseMs, held }: MoveResult): void {
    if (outcome === 'refused') to.refusing = true
    this.publish({
      type: 'migration',
      session: session.id,
      from: from.id,
      to: to.id,
      reason,
      outcome,
      pauseMs,
      held,
    })
    // The source can be lost while its target is already down.
    if (!moved && session.node?.health === 'down') {
      session.unassign(true)
      this.recover(session)
    }
  }

  private rebalanceSoon(): void {
    if (!this.options.rebalance.enabled || this.stopping) return
    this.rebalanceTimer ??= setTimeout(() => {
      this.rebalanceTimer = null
      this.rebalanceAll()
    }, rebalanceDebounceMs)
  }

  private rebalanceAll(): void {
    for (const pool of this.nodes.poolNames()) if (!this.rounds.has(pool)) this.rebalance(pool, false)
  }

  /** Once a second: deadlines that need no precision. */
  private maintain(): void {
    const now = this.now()
    for (const session of this.waiting) {
      if (now - session.waitingSince! < this.limits.holdMs) continue
      this.publish({
        type: 'session-lost',
        session: session.id,
        reason: `no node for ${this.limits.holdMs} ms`,
      })
      session.abandon(CloseCode.tryAgainLater, 'no node can take the session')
    }
    for (const drain of this.drains.values()) drain.check()
    for (const node of this.nodes.all()) node.measureRate()
  }

  private readonly drainContext: DrainContext = {
    start: (source) => this.migrator.add(source),
    stop: (source) => this.migrator.remove(source),
    now: () => this.now(),
    pick: (pool) => this.pick(pool),
    force: (session) => {
      session.withdraw()
      this.recover(session)
    },
    ended: (drain) => {
      this.drains.delete(drain.node)
      if (drain.node.state === 'drained')
        this.publish({ type: 'node-state', node: drain.node.id, state: 'drained' })
      this.rebalanceSoon()
    },
  }

  private get rebalanceContext(): RebalanceContext {
    const { tolerance, maxMovesPerRound } = this.options.rebalance
    return {
      migrator: this.migrator,
      tolerance,
      maxMovesPerRound,
      inPool: (pool) => this.nodes.inPool(pool),
      ended: (round) => {
        if (this.rounds.get(round.pool) === round) this.rounds.delete(round.pool)
      },
    }
  }

  private nextNumber(): number {
    do this.lastNumber = (this.lastNumber + 1) >>> 0
    while (this.lastNumber === 0 || this.sessions.has(this.lastNumber))
    return this.lastNumber
  }
}

/** JSON without any character beyond ASCII, so that its length in bytes is its length. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
