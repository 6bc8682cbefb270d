import { groupsOf } from '../core/balance/canary.ts'
import { isSendableCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { isWeight } from '../protocol/link-records.ts'
import { channelNameRule, isChannelName } from '../protocol/names.ts'
import type { Gateway } from './gateway.ts'
import type { GatewayDrain } from './gateway-drain.ts'
import type { NodeEntry } from './node-entry.ts'
import type {
  ChannelView,
  DrainOptions,
  GatewayView,
  NodeView,
  Operation,
  Operator,
  OperatorEvent,
  RebalanceOptions,
  RebalanceResult,
  RunsView,
  SessionDetails,
  SessionQuery,
  SessionView,
} from './operator.ts'
import type { Session } from './session.ts'
import type { NewUpstream, UpstreamDirectory, UpstreamView } from './upstream-directory.ts'
import { UpstreamEntry } from './upstream-entry.ts'

const defaultPageSize = 100
const maxPageSize = 1_000

/** The gateway as operators see it. */
export class OperatorView implements Operator {
  private readonly gateway: Gateway
  private readonly ownDrain: GatewayDrain
  private readonly directory: UpstreamDirectory

  constructor(gateway: Gateway, drain: GatewayDrain, directory: UpstreamDirectory) {
    this.gateway = gateway
    this.ownDrain = drain
    this.directory = directory
  }

  get gatewayId() {
    return this.gateway.id
  }
  get startedAt() {
    return this.gateway.startedAt
  }
  get limits() {
    return this.gateway.limits
  }
  get pressure() {
    return this.gateway.pressure
  }
  get counters() {
    return this.gateway.counters
  }

  get runs(): RunsView {
    const { owned, live, counters } = this.gateway.runs
    return { running: owned.size, read: live.size, ...counters }
  }

  gateways(): GatewayView[] {
    const known = this.gateway.cluster.registry.entries().filter((entry) => entry.kind === 'gateway')
    return known
      .map(({ id, state, internalUrl, startedAt }) => {
        const self = id === this.gatewayId
        // Of itself a gateway knows it before the registry does, and without it.
        return { id, state: self && this.gateway.stopping ? 'draining' : state, internalUrl, startedAt, self }
      })
      .toSorted((a, b) => Number(b.self) - Number(a.self) || (a.id < b.id ? -1 : 1))
  }

  drainGateway(id: string): Operation {
    if (id !== this.gatewayId) {
      const known = this.gateways().map((gateway) => gateway.id)
      throw new EvenkeelError('NOT_FOUND', `no gateway ${id}; known: ${known.join(', ')}`)
    }
    return this.ownDrain.begin().operation.view()
  }

  nodes(): NodeView[] {
    return this.gateway.nodes.all().map((node) => this.nodeView(node))
  }

  node(id: string): NodeView {
    return this.nodeView(this.findNode(id))
  }

  setWeight(id: string, weight: number): NodeView {
    const node = this.findNode(id)
    if (!isWeight(weight))
      throw new EvenkeelError('BAD_REQUEST', 'weight must be a number above 0, at most 1000000')
    this.gateway.steering.setWeight(node, weight)
    return this.nodeView(node)
  }

  drain(id: string, options: DrainOptions = {}): Operation {
    const node = this.findLiveNode(id)
    const { deadlineMs = null, ratePerSecond = null } = options
    return this.gateway.steering.drain(node, { deadlineMs, ratePerSecond }).view()
  }

  activate(id: string): NodeView {
    const node = this.findLiveNode(id)
    this.gateway.steering.activate(node)
    return this.nodeView(node)
  }

  rebalance({ pool, dryRun = false }: RebalanceOptions = {}): RebalanceResult[] {
    const known = this.gateway.nodes.poolNames()
    if (pool !== undefined && !known.includes(pool)) {
      throw new EvenkeelError(
        'NOT_FOUND',
        `no pool ${pool}; known: ${known.join(', ') || 'none, as no node is linked'}`,
      )
    }
    if (!dryRun && this.gateway.stopping)
      throw new EvenkeelError('DRAINING', `gateway ${this.gatewayId} is draining; ask another one`)
    return (pool === undefined ? known : [pool]).map((name) => {
      const { plan, operation } = this.gateway.rebalancer.rebalance(name, dryRun)
      return { pool: name, dryRun, ...plan, operation: operation?.view() ?? null }
    })
  }

  operation(id: string): Operation {
    return this.gateway.operations.get(id)
  }

  operations(): Operation[] {
    return this.gateway.operations.all()
  }

  sessions({ node, cursor, slow = false, limit = defaultPageSize }: SessionQuery = {}): {
    sessions: SessionView[]
    next: string | null
  } {
    if (node !== undefined) this.findNode(node)
    const size = Math.min(Math.max(1, limit), maxPageSize)
    const after = cursor === undefined ? 0 : Number.parseInt(cursor, 36)
    if (!Number.isSafeInteger(after))
      throw new EvenkeelError('BAD_REQUEST', 'cursor must be the `next` of the page before')
    const page: SessionView[] = []
    for (const session of this.gateway.sessions.values()) {
      if (!session.listed) continue
      if (session.number <= after || (node !== undefined && session.node?.id !== node)) continue
      if (slow && (session.connection?.pendingBytes ?? 0) === 0) continue
      // The table is in the order of numbers, so the last one shown is where the next page begins.
      if (page.length === size)
        return { sessions: page, next: this.find(page.at(-1)!.id).number.toString(36) }
      page.push(sessionView(session))
    }
    return { sessions: page, next: null }
  }

  session(id: string): SessionDetails {
    const session = this.find(id)
    return { ...sessionView(session), assignments: session.assignments }
  }

  migrate(id: string, to: string): Operation {
    const session = this.find(id)
    const target = this.findNode(to)
    if (session.move !== null) throw new EvenkeelError('CONFLICT', `session ${id} is moving already`)
    if (!session.movable && session.hasNode)
      throw new EvenkeelError('CONFLICT', `session ${id} cannot be moved while it lives`)
    if (session.node === null)
      throw new EvenkeelError('CONFLICT', `session ${id} waits for a node; it cannot be moved now`)
    if (session.closing !== null) throw new EvenkeelError('CONFLICT', `session ${id} is closing`)
    if (session.node === target) throw new EvenkeelError('CONFLICT', `session ${id} is at node ${to} already`)
    if (target.pool !== session.pool) {
      throw new EvenkeelError(
        'CONFLICT',
        `node ${to} is in pool ${target.pool}, the session belongs to ${session.pool}`,
      )
    }
    if (!target.active || target.health !== 'healthy') {
      throw new EvenkeelError(
        'CONFLICT',
        `node ${to} takes no sessions: it is ${target.state}, ${target.health}`,
      )
    }
    return this.gateway.migrate(session, target).view()
  }

  closeSession(id: string, code = 1000, reason = 'closed by an operator'): void {
    const session = this.find(id)
    if (!isSendableCloseCode(code))
      throw new EvenkeelError('BAD_REQUEST', `close code ${code} may not be sent`)
    session.dismiss(code, reason)
  }

  channelMembers(channel: string): number {
    assertChannelName(channel)
    return this.gateway.channels.membersHere(channel)
  }

  async channelHistory(channel: string): Promise<ChannelView['history']> {
    assertChannelName(channel)
    return await this.gateway.channels.head(channel)
  }

  publish(channel: string, data: string): Promise<{ deliveredLocal: number }> {
    return this.gateway.publishToChannel(channel, Buffer.from(data), true)
  }

  get detachedSessions(): number {
    return this.gateway.detached.size
  }

  get upstreamCounters() {
    return this.directory.counters
  }

  upstreams(): UpstreamView[] {
    return this.directory.list()
  }

  addUpstream(upstream: NewUpstream): Promise<UpstreamView> {
    return this.directory.add(upstream)
  }

  removeUpstream(id: string): Promise<void> {
    return this.directory.remove(id)
  }

  get canaries() {
    return this.gateway.canaries
  }

  readiness(): { ready: boolean; reasons: string[] } {
    const { stopping, cluster, pressure, strain } = this.gateway
    const degraded = [cluster.bus.status(), cluster.registry.status()].flatMap(({ reason }) => reason ?? [])
    const overload = pressure === 'normal' ? [] : [`overloaded: ${strain ?? pressure}`]
    const reasons = [...(stopping ? ['draining'] : []), ...overload, ...new Set(degraded)]
    return { ready: !stopping && pressure === 'normal', reasons }
  }

  onEvent(listener: (event: OperatorEvent) => void): () => void {
    return this.gateway.onEvent(listener)
  }

  private find(id: string): Session {
    const session = this.gateway.sessionsById.get(id)
    if (session === undefined) throw new EvenkeelError('NOT_FOUND', `no session ${id} at this gateway`)
    return session
  }

  private findNode(id: string): NodeEntry {
    const node = this.gateway.nodes.get(id)
    if (node === undefined) throw new EvenkeelError('NOT_FOUND', `no node ${id}`)
    return node
  }

  private findLiveNode(id: string): NodeEntry {
    const node = this.findNode(id)
    // An upstream that gets nothing new may still have sessions, and may be back at any moment.
    if (node.health === 'down' && !(node instanceof UpstreamEntry))
      throw new EvenkeelError('CONFLICT', `node ${id} is down`)
    return node
  }

  private nodeView(node: NodeEntry): NodeView {
    const pool = this.gateway.nodes.inPool(node.pool)
    const sessions = sum(pool, ({ total }) => total)
    const takes = ({ active, servesSessions }: NodeEntry) => active && servesSessions
    // Each side of a canary is balanced by itself: what it has is divided among its nodes.
    const groups = groupsOf(pool, this.gateway.canaries.of(node.pool))
    const group = groups.find((members) => members.includes(node)) ?? pool
    const part = sessions === 0 || groups.length === 1 ? 1 : sum(group, ({ total }) => total) / sessions
    const weight = sum(group, (one) => (takes(one) ? one.weight : 0))
    return {
      id: node.id,
      pool: node.pool,
      weight: node.weight,
      state: node.state,
      health: node.health,
      sessions: node.total,
      sessionsHere: node.assigned.size,
      reportedSessions: node.reportedSessions,
      sessionsByTransport: byTransport(node),
      maxSessions: node.maxSessions,
      share: sessions === 0 ? 0 : node.total / sessions,
      fairShare: takes(node) && weight > 0 ? (part * node.weight) / weight : 0,
      messagesPerSecond: Math.round(node.messagesPerSecond * 10) / 10,
      bytesPerSecond: Math.round(node.bytesPerSecond),
      responseMs: node.responseMs === undefined ? null : Math.round(node.responseMs * 1000) / 1000,
      load: node.load === null ? null : Math.round(node.load * 100) / 100,
      connectedAt: node.connectedAt,
      ...node.description,
    }
  }
}

function assertChannelName(name: string): void {
  if (!isChannelName(name)) throw new EvenkeelError('BAD_REQUEST', channelNameRule)
}

function byTransport(node: NodeEntry): NodeView['sessionsByTransport'] {
  const counts = { websocket: 0, sse: 0, 'socket.io': 0, 'engine.io': 0, tcp: 0 }
  for (const { transport } of node.assigned) counts[transport]++
  return counts
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0)
}

function sessionView(session: Session): SessionView {
  const state =
    session.move !== null
      ? 'migrating'
      : session.closing !== null
        ? 'closing'
        : !session.hasNode
          ? 'waiting'
          : session.connection === null
            ? 'detached'
            : 'active'
  return {
    id: session.id,
    pool: session.pool,
    transport: session.transport,
    node: session.node?.id ?? null,
    term: session.term,
    state,
    uncommitted: session.uncommitted,
    migrations: session.migrations,
    openedAt: session.openedAt,
    address: session.address,
    pendingBytes: session.connection?.pendingBytes ?? 0,
  }
}
