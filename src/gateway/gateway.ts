import { setTimeout as delay } from 'node:timers/promises'
import type { ClusterMember } from '../cluster/member.ts'
import { isEligible } from '../core/balance/candidate.ts'
import type { ShownClient } from '../core/balance/client-key.ts'
import { Dispatcher } from '../core/balance/dispatcher.ts'
import type { Wish } from '../core/balance/persistence.ts'
import type { PolicyName } from '../core/balance/policies.ts'
import type { PoolRules } from '../core/balance/pool-rules.ts'
import type { HistoryRule } from '../core/channel/history-rules.ts'
import type { Measures, Pressure, PressureChange } from '../core/health/overload.ts'
import type { Link, LinkHandlers } from '../link/link.ts'
import { CloseCode, LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import {
  type Continued,
  type Hello,
  RecordType,
  type Report,
  type SessionMeta,
} from '../protocol/link-records.ts'
import { channelNameRule, isChannelName } from '../protocol/names.ts'
import { Canaries } from './canaries.ts'
import { Channels } from './channels.ts'
import type { ClientConnection } from './client-connection.ts'
import { linkHandlers, zombieHandlers } from './link-records.ts'
import type { LinkedNode } from './linked-node.ts'
import { Migrator, type MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import { NodeTable } from './node-table.ts'
import { OnceCasts } from './once-casts.ts'
import { Operations } from './operations.ts'
import { type AssignmentReason, newCounters, type OperatorEvent, type Untimed } from './operator.ts'
import { Placement, type PlacementRules } from './placement.ts'
import { type RebalanceOptions, Rebalancer } from './rebalancer.ts'
import type { ResumableSession } from './resumable-session.ts'
import { Resumes } from './resumes.ts'
import { Rooms } from './rooms.ts'
import { Runs } from './runs.ts'
import { asciiJson, Session, type SessionIdentity, type SlowConsumerPolicy } from './session.ts'
import { type SpreadPool, SpreadSession } from './spread-session.ts'
import { Steering } from './steering.ts'
import { noTracing, type Tracing } from './tracing.ts'
import { Turn } from './turn.ts'
import { UpstreamEntry } from './upstream-entry.ts'
import { Upstreams, type UpstreamsOptions } from './upstreams.ts'

/** What can be changed while the gateway runs. */
export interface GatewayRules {
  policy: PolicyName
  /** Of all pools, beside the policy. */
  rules?: Partial<PoolRules>
  /** By pool, what is different there. */
  pools?: ReadonlyMap<string, Partial<PoolRules>>
  rebalance: RebalanceOptions
  /** How far beyond its fair share a node may be taken by clients that return to it, as a part of that. Default 0.25. */
  maxOverShare?: number
  /** Default `close`. */
  slowConsumer?: SlowConsumerPolicy
  /** Which channels have a history, by the first rule that matches; the same at all gateways. Default: none. */
  history?: readonly HistoryRule[]
}

export interface GatewayOptions extends GatewayRules {
  id: string
  /** May be changed in place; what was begun by a former value ends by it. */
  limits: Readonly<Limits>
  /** The other gateways, or none. */
  cluster: ClusterMember
  /** Default: none. */
  upstreams?: UpstreamsOptions | null
  /** Default: nothing is traced. */
  tracing?: Tracing
  /** Monotonic milliseconds. Default: `performance.now`. */
  now?: () => number
  random?: () => number
}

const maintenanceMs = 1_000
/** Sessions that went to other gateways and are remembered. */
const goneElsewhereMax = 4_096
const leaveStepMs = 20
/** For clients that were asked to move and have not gone. */
const leaveGraceMs = 2_000

/**
 * The heart of one gateway process: sessions, their nodes, and what moves them. Knows no socket; the edge brings
 * connections, the link brings nodes.
 */
export class Gateway {
  readonly id: string
  readonly startedAt = Date.now()
  readonly limits: Readonly<Limits>
  readonly counters = newCounters()
  readonly turn = new Turn()
  readonly channels: Channels
  readonly rooms = new Rooms()
  readonly onceCasts = new OnceCasts()
  readonly cluster: ClusterMember
  readonly tracing: Tracing
  slowConsumer: SlowConsumerPolicy
  readonly nodes: NodeTable
  readonly operations: Operations
  readonly migrator: Migrator
  readonly rebalancer: Rebalancer
  readonly placement: Placement
  readonly canaries: Canaries
  readonly steering: Steering
  readonly sessions = new Map<number, Session>()
  readonly sessionsById = new Map<string, Session>()
  readonly detached = new Set<ResumableSession>()
  readonly resumes: Resumes
  /** Sessions that were here and are at other gateways now, as far as is remembered; the oldest first. */
  private readonly goneIds = new Set<string>()
  readonly runs: Runs
  /** null: all nodes are linked. */
  readonly upstreams: Upstreams | null
  stopping = false
  /** What this process can take on, as it was found last. */
  pressure: Pressure = 'normal'
  /** Why it is not `normal`; null: it is. */
  strain: PressureChange['strain'] = null
  readonly now: () => number
  readonly startedAtMs: number
  private readonly spreadPools = new Map<string, SpreadPool>()
  private readonly waiting = new Set<Session>()
  private readonly listeners = new Set<(event: OperatorEvent) => void>()
  private readonly nodeWaiters = new Set<() => void>()
  private readonly timers: NodeJS.Timeout[] = []
  private lastNumber = 0
  private welcomes = 0

  constructor(options: GatewayOptions) {
    this.id = options.id
    this.limits = options.limits
    this.now = options.now ?? (() => performance.now())
    this.startedAtMs = this.now()
    this.resumes = new Resumes(this)
    this.upstreams = options.upstreams ? new Upstreams(this, options.upstreams) : null
    this.slowConsumer = options.slowConsumer ?? 'close'
    this.cluster = options.cluster
    this.tracing = options.tracing ?? noTracing
    this.channels = new Channels({
      cluster: options.cluster,
      turn: this.turn,
      rules: options.history ?? [],
      random: options.random ?? Math.random,
    })
    this.runs = new Runs({
      gatewayId: options.id,
      limits: options.limits,
      cluster: options.cluster,
      turn: this.turn,
      now: this.now,
      refusesNew: () => this.refusesNew(),
      tracing: this.tracing,
    })
    this.operations = new Operations((operation) => this.publish({ type: 'operation', operation }))
    this.nodes = new NodeTable(options.limits, {
      suspect: (node) => this.publish({ type: 'node-suspect', node: node.id }),
      healthy: (node) => this.publish({ type: 'node-healthy', node: node.id }),
      down: (node, reason) => this.nodeDown(node, reason),
    })
    this.placement = new Placement({
      nodes: this.nodes,
      ...placementRules(options),
      random: options.random ?? Math.random,
    })
    this.canaries = new Canaries(this)
    this.steering = new Steering(this)
    this.migrator = new Migrator({
      limits: options.limits,
      now: this.now,
      onResult: (result) => this.moveEnded(result),
    })
    this.rebalancer = new Rebalancer(options.rebalance, {
      gatewayId: options.id,
      nodes: this.nodes,
      migrator: this.migrator,
      operations: this.operations,
      placement: this.placement,
      now: this.now,
      cluster: options.cluster,
      publish: (event) => this.publish(event),
    })
  }

  /** Why pools cannot be of upstreams, or not be, as is wanted: a pool has one kind of nodes. null: they can. */
  kindConflict(ofUpstreams: ReadonlySet<string>): string | null {
    for (const node of this.nodes.all()) {
      const { pool, id } = node
      if (ofUpstreams.has(pool) === node instanceof UpstreamEntry || node.health === 'down') continue
      if (ofUpstreams.has(pool))
        return `pools.${pool}: node ${id} is linked and in this pool; upstreams need another`
    }
    return null
  }

  private hasUpstreams(pool: string): boolean {
    return this.nodes.all().some((node) => node.pool === pool && node instanceof UpstreamEntry)
  }

  /** From now on; nobody is closed or moved by it. */
  configure(rules: GatewayRules): void {
    this.slowConsumer = rules.slowConsumer ?? 'close'
    this.placement.configure(placementRules(rules))
    this.channels.configure(rules.history ?? [])
    this.rebalancer.configure(rules.rebalance)
    // A policy may have a place for who waits; shares may be others now.
    this.nodesChanged()
  }

  start(): void {
    this.timers.push(setInterval(() => this.nodes.tick(this.now()), this.nodes.tickMs))
    this.timers.push(setInterval(() => this.maintain(), maintenanceMs))
    this.rebalancer.start()
    this.canaries.begin()
    this.runs.begin()
    this.upstreams?.start()
    // The registry keeps a view only while somebody watches.
    this.cluster.registry.watch(() => {})
  }

  /**
   * Takes no more clients; asks those that can resume to move and closes the others with 1012, spread evenly over
   * `limits.gatewayDrainMs`.
   */
  async leave(): Promise<void> {
    this.stopping = true
    this.runs.leave(this.limits.gatewayDrainMs)
    for (const wake of this.nodeWaiters) wake()
    const leaving = [...this.sessions.values()].filter(({ listed }) => listed)
    const startedAt = this.now()
    const spreadMs = this.limits.gatewayDrainMs
    let asked = 0
    // Clients may leave by themselves meanwhile; nobody is waited for who is not there.
    while (this.runs.readers > 0 || leaving.some(({ connection }) => connection !== null)) {
      const elapsed = this.now() - startedAt
      if (elapsed > spreadMs + leaveGraceMs) break
      const due = Math.ceil(leaving.length * Math.min(1, elapsed / spreadMs))
      for (; asked < due; asked++) leaving[asked]!.askToMove()
      await delay(leaveStepMs)
    }
  }

  /** Closes every client with 1012. Sessions that can be resumed stay at their nodes. The caller closes links and listeners. */
  stop(): void {
    this.stopping = true
    for (const timer of this.timers) clearInterval(timer)
    this.rebalancer.stop()
    this.canaries.stop()
    this.migrator.stop()
    this.resumes.stop()
    this.runs.stop()
    this.upstreams?.stop()
    for (const session of [...this.sessions.values()]) session.gatewayStops()
    for (const wake of this.nodeWaiters) wake()
  }

  // For the edge.

  /** True when a session of this pool would get a node now. */
  canAssign(pool: string): boolean {
    // Not by the policy: asking must not use up a turn.
    return !this.stopping && this.nodes.inPool(pool).some(isEligible)
  }

  /** The node that a client is to get, none of `except`; null when none can take its session. */
  choose(
    pool: string,
    wish: Wish | null,
    client: ShownClient,
    except: ReadonlySet<NodeEntry> | null = null,
  ): NodeEntry | null {
    return this.placement.choose(pool, wish, client, except)
  }

  /** The node that the key leads to, whatever the policy of the pool is; none of `except`. null when none can take a request. */
  chooseByKey(pool: string, key: string, except: ReadonlySet<NodeEntry>): NodeEntry | null {
    return this.placement.chooseByKey(pool, key, except)
  }

  /** Whether it is too busy for new work; counts what is refused for that. */
  refusesNew(): boolean {
    if (this.pressure === 'normal') return false
    const { refused } = this.counters
    refused.overload = (refused.overload ?? 0) + 1
    return true
  }

  pressed({ from, to, strain }: PressureChange, measures: Measures): void {
    this.pressure = to
    this.strain = strain
    this.publish({ type: 'overload', from, to, strain, measures })
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
  openSession(
    pool: string,
    meta: Omit<SessionMeta, 'id'>,
    connection: ClientConnection,
    chosen: NodeEntry | null = null,
    key: string | null = null,
  ): Session {
    const isSpread = connection.transport === 'websocket' && this.placement.isByMessage(pool)
    const session = this.createSession(pool, meta, chosen, (identity) =>
      isSpread ? new SpreadSession(this, identity, this.spreadPool(pool)) : new Session(this, identity),
    )
    session.key = key
    session.attach(connection)
    this.assign(session, chosen)
    return session
  }

  private spreadPool(pool: string): SpreadPool {
    let spread = this.spreadPools.get(pool)
    if (spread === undefined) {
      spread = {
        dispatcher: new Dispatcher(),
        orderBy: () => this.placement.rulesOf(pool).orderBy,
        nodes: () => this.nodes.inPool(pool),
        nextNumber: () => this.nextNumber(),
        addLane: (lane) => this.sessions.set(lane.number, lane),
      }
      this.spreadPools.set(pool, spread)
    }
    return spread
  }

  /** `chosen`: the node that it is to get. */
  createSession<S extends Session>(
    pool: string,
    meta: Omit<SessionMeta, 'id'>,
    chosen: NodeEntry | null,
    make: (identity: SessionIdentity) => S,
  ): S {
    const { address, transport } = meta
    const id = this.canaries.sessionId(chosen)
    const number = this.nextNumber()
    const session = make({ number, id, pool, meta: asciiJson({ id, ...meta }), address, transport })
    this.addSession(session)
    this.tracing.sessionFor(meta, session)
    return session
  }

  addSession(session: Session): void {
    this.sessions.set(session.number, session)
    this.sessionsById.set(session.id, session)
  }

  /** A number that no session has. */
  nextNumber(): number {
    do this.lastNumber = (this.lastNumber + 1) >>> 0
    while (this.lastNumber === 0 || this.sessions.has(this.lastNumber) || this.resumes.uses(this.lastNumber))
    return this.lastNumber
  }

  nextRetryMs(): number {
    return Math.round(vanDerCorput(++this.welcomes) * this.limits.resumeSpreadMs)
  }

  // For the link.

  /** Throws CONFLICT when the id is live. */
  nodeJoined(hello: Hello, link: Link): { handlers: LinkHandlers; joined(): void } {
    if (this.upstreams?.has(hello.pool) || this.hasUpstreams(hello.pool)) {
      throw new EvenkeelError(
        'CONFLICT',
        `pool ${hello.pool} is one of upstreams; give nodes that are linked another pool`,
      )
    }
    const node = this.nodes.join(hello, link)
    this.warm(node)
    return {
      handlers: linkHandlers(this, node),
      joined: () => {
        link.ping()
        // A weight that an operator set outlives the node's restart.
        if (node.weight !== hello.weight) node.steer({ weight: node.weight })
        this.publish({ type: 'node-up', node: node.id, pool: node.pool })
        this.resumes.nodeJoined(node)
        this.tellPeers(node.pool)
        this.runs.nodeJoined(node)
        this.nodesChanged()
      },
    }
  }

  /** What the bus could not take is counted and logged; publishers at nodes are not waited for. */
  publishFromNode(node: NodeEntry, channel: string, payload: Buffer, text: boolean): void {
    this.channels.publish(channel, payload, text).catch((error: unknown) => {
      this.counters.publishesFailed++
      this.publish({
        type: 'publish-failed',
        node: node.id,
        channel,
        reason: String((error as Error).message),
      })
    })
  }

  /** Throws BAD_REQUEST, NOT_READY. */
  async publishToChannel(
    channel: string,
    payload: Buffer,
    text: boolean,
  ): Promise<{ deliveredLocal: number }> {
    if (!isChannelName(channel)) throw new EvenkeelError('BAD_REQUEST', channelNameRule)
    if (payload.length > this.limits.messageBytes)
      throw new EvenkeelError('TOO_LARGE', `data has at most ${this.limits.messageBytes} bytes`)
    await this.channels.publish(channel, payload, text)
    return { deliveredLocal: this.channels.membersHere(channel) }
  }

  linkClosed(node: NodeEntry, code: number, reason: string): void {
    const wasDrained = node.state === 'drained'
    if (code === LinkCloseCode.goodbye) node.excused = true
    this.nodes.lose(node, `link closed: ${code}${reason === '' ? '' : ` ${reason}`}`)
    if (wasDrained) this.nodes.remove(node)
  }

  /** The node refused a session that was opened on it. */
  refused(session: Session, node: NodeEntry): void {
    node.refuse()
    const { move } = session
    session.refused()
    move?.step('source-refused')
    this.assign(session)
  }

  reported(node: LinkedNode, report: Report): void {
    const refused = node.refusing
    node.refusing = false
    if (report.steered >= node.steered) this.steering.reported(node, report)
    // What that has changed may have steered the node anew.
    if (report.steered >= node.steered) this.canaries.reported(node, report.canary)
    this.runs.nodeReported(node)
    if (refused) this.nodesChanged()
  }

  /** True when the session was here and has gone on at another gateway. */
  isElsewhere(id: string): boolean {
    return this.goneIds.has(id)
  }

  // For sessions.

  goneElsewhere(id: string): void {
    this.goneIds.delete(id)
    this.goneIds.add(id)
    if (this.goneIds.size > goneElsewhereMax) this.goneIds.delete(this.goneIds.values().next().value!)
  }

  assigned(session: Session, node: NodeEntry, reason: AssignmentReason): void {
    if (!this.tracing.isOn) return
    const { policy } = this.placement.rulesOf(session.pool)
    const waitedMs = session.waitingSince === null ? 0 : this.now() - session.waitingSince
    this.tracing.assigned(session, node, reason, policy, waitedMs)
  }

  ended(session: Session): void {
    this.tracing.sessionEnded(session)
    this.sessions.delete(session.number)
    if (this.sessionsById.get(session.id) === session) this.sessionsById.delete(session.id)
    this.waiting.delete(session)
  }

  // For operators.

  migrate(session: Session, target: NodeEntry) {
    const operation = this.operations.start('migrate', session.id, 1)
    this.migrator.start(session, target, {
      reason: 'operator',
      ownBudget: true,
      next: () => null,
      result: (result) => {
        operation.add(result)
        operation.end(result.moved ? 'done' : 'failed')
        this.rebalancer.soon()
      },
    })
    return operation
  }

  publish(event: Untimed): void {
    const timed = { at: Date.now(), ...event } as OperatorEvent
    for (const listener of this.listeners) listener(timed)
  }

  onEvent(listener: (event: OperatorEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  // Inside.

  /** Each node that wants to hears which others of its pool can be told something by way of this gateway. */
  private tellPeers(pool: string): void {
    const nodes = this.nodes.linkedIn(pool).filter(({ hello }) => hello.peers === true)
    const peers = { nodes: nodes.map(({ id, hello }) => ({ id, instance: hello.instance })) }
    for (const { link } of nodes) link.putJson(RecordType.peers, 0, 0, peers)
  }

  // For upstreams.

  /** It takes sessions from now on. */
  upstreamUp(entry: UpstreamEntry): void {
    if (entry.health !== 'down') return
    this.nodes.recover(entry, this.steering.isDraining(entry) ? 'draining' : 'active')
    entry.warmSince = null
    this.warm(entry)
    this.publish({ type: 'node-up', node: entry.id, pool: entry.pool })
    this.steering.upstreamSet(entry)
    this.nodesChanged()
  }

  /** Nothing is left at one that is on no list: it is forgotten. */
  upstreamDrained(node: NodeEntry): void {
    if (!(node instanceof UpstreamEntry && node.leaving)) return
    node.stop()
    this.nodes.remove(node)
  }

  /** Sessions that can go on elsewhere do; the others end with their connections, which may still be good. */
  private upstreamDown(entry: UpstreamEntry): void {
    for (const move of [...entry.incoming]) move.step('target-lost')
    for (const session of [...entry.assigned]) {
      if (!session.movable || session.closing !== null || this.placement.place(session) === null) continue
      if (session.move !== null) session.move.step('source-lost')
      else {
        session.unassign(false)
        this.assign(session)
      }
    }
    this.rebalancer.soon()
  }

  /** Gives the session to a node at its last commit, or lets it wait for one. `chosen` gets it, if it still can. */
  assign(session: Session, chosen: NodeEntry | null = null): void {
    if (session.ended) return
    const takesIt = chosen !== null && isEligible(chosen) && this.canaries.fits(session, chosen)
    const node = takesIt ? chosen : this.placement.place(session)
    if (node !== null) {
      this.waiting.delete(session)
      session.open(node)
      return
    }
    session.waitingSince ??= this.now()
    this.waiting.add(session)
  }

  private nodeDown(node: NodeEntry, reason: string): void {
    this.publish({ type: 'node-down', node: node.id, reason, sessions: node.assigned.size })
    if (node.excused) this.canaries.nodesChanged()
    else this.canaries.nodeLost(node, reason)
    if (node instanceof UpstreamEntry) this.upstreamDown(node)
    else this.linkLost(node as LinkedNode)
  }

  private linkLost(node: LinkedNode): void {
    if (!node.link.closed) node.link.handlers = zombieHandlers(this, node)
    this.channels.nodeLost(node)
    this.runs.nodeLost(node)
    this.tellPeers(node.pool)
    this.steering.nodeLost(node)
    this.resumes.nodeLost(node)
    for (const move of [...node.incoming]) move.step('target-lost')
    for (const session of [...node.assigned]) {
      if (session.move !== null) {
        session.move.step('source-lost')
      } else {
        session.unassign(true)
        this.assign(session)
      }
    }
    this.rebalancer.soon()
  }

  /** It is new, unless it was only linked anew. */
  private warm(node: NodeEntry): void {
    const now = this.now()
    node.warmSince ??= now
    node.warmth = this.placement.warmth(node, now)
  }

  /** Somebody who waits for a node may get one now. */
  nodesChanged(): void {
    for (const session of this.waiting) this.assign(session)
    for (const wake of this.nodeWaiters) wake()
    this.canaries.nodesChanged()
    this.migrator.pump()
    this.rebalancer.soon()
  }

  /** A node that reports it says how a session that has come to it goes on. */
  continued(session: Session, node: NodeEntry, how: Continued): void {
    this.publish({ type: 'continued', session: session.id, node: node.id, ...how })
  }

  private moveEnded(result: MoveResult): void {
    const { session, from, to, reason, outcome, moved, pauseMs, held } = result
    if (outcome === 'refused') to.refuse()
    this.canaries.moveEnded(result)
    this.tracing.moved(result)
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
      this.assign(session)
    }
  }

  /** Once a second: deadlines that need no precision. */
  private maintain(): void {
    const now = this.now()
    for (const session of this.waiting) {
      if (now - session.waitingSince! < this.limits.holdMs) {
        if (session.retry()) this.assign(session)
        continue
      }
      this.publish({
        type: 'session-lost',
        session: session.id,
        reason: `no node for ${this.limits.holdMs} ms`,
      })
      session.abandon(CloseCode.tryAgainLater, 'no node can take the session')
    }
    for (const session of this.detached) {
      if (now - session.resumable.detachedAt! >= this.limits.resumeMs) session.expire()
    }
    this.steering.check()
    for (const node of this.nodes.all()) {
      node.measure(now)
      node.warmth = this.placement.warmth(node, now)
    }
  }
}

function placementRules({ policy, rules, pools, maxOverShare }: GatewayRules): PlacementRules {
  return { rules: { ...rules, policy }, pools: pools ?? new Map(), maxOverShare: maxOverShare ?? 0.25 }
}

/** A sequence in 0..1 whose first n values are spread evenly for every n: the bits of the index, mirrored. */
function vanDerCorput(index: number): number {
  let mirrored = 0
  for (let bit = 0; bit < 32; bit++) mirrored = (mirrored << 1) | ((index >>> bit) & 1)
  return (mirrored >>> 0) / 2 ** 32
}
