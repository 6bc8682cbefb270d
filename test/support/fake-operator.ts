import type { CanaryOperator, CanaryOrder, CanaryView } from '../../src/gateway/canary-operator.ts'
import {
  type ChannelView,
  type Counters,
  type DrainOptions,
  type NodeView,
  newCounters,
  type Operation,
  type Operator,
  type OperatorEvent,
  type RebalanceOptions,
  type RebalanceResult,
  type RunsView,
  type SessionDetails,
  type SessionQuery,
  type SessionView,
} from '../../src/gateway/operator.ts'
import type { NewUpstream, UpstreamView } from '../../src/gateway/upstream-directory.ts'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { channelNameRule, isChannelName } from '../../src/protocol/names.ts'

export function fakeNode(id: string, change: Partial<NodeView> = {}): NodeView {
  return {
    id,
    pool: 'default',
    weight: 1,
    state: 'active',
    health: 'healthy',
    sessions: 2,
    sessionsByTransport: { websocket: 2, sse: 0, 'socket.io': 0, 'engine.io': 0, tcp: 0 },
    sessionsHere: 2,
    reportedSessions: 2,
    maxSessions: null,
    share: 0.5,
    fairShare: 0.5,
    messagesPerSecond: 1.5,
    bytesPerSecond: 0,
    responseMs: null,
    load: null,
    linkRttMs: 0.4,
    host: 'host-a',
    pid: 4242,
    connectedAt: 1_700_000_000_000,
    version: '1.0.0',
    url: null,
    ...change,
  }
}

export function fakeUpstream(id: string, change: Partial<UpstreamView> = {}): UpstreamView {
  return {
    id,
    pool: 'legacy',
    url: 'http://chat.internal:3000',
    origin: 'config',
    weight: 1,
    drain: null,
    address: '10.0.0.1:3000',
    health: 'healthy',
    reason: null,
    ...change,
  }
}

export function fakeCanary(id: string, { pool, version, percent }: CanaryOrder): CanaryView {
  const seen = { sessionSeconds: 60, failures: 0, failuresPerHour: 0, messageMs: null }
  return {
    id,
    pool,
    version,
    percent,
    state: 'watching',
    reason: '',
    gateway: 'gw-test',
    startedAt: 1_700_000_000_000,
    watchFrom: 1_700_000_000_000,
    watchMs: 600_000,
    maxErrorRatio: 2,
    maxTimeRatio: 3,
    minSessions: 1,
    sessions: 1,
    poolSessions: 4,
    moved: 1,
    returned: 0,
    failed: 0,
    left: 0,
    seen: { canary: seen, others: { ...seen, failures: 2 } },
  }
}

export function fakeSession(id: string, node: string): SessionView {
  return {
    id,
    pool: 'default',
    transport: 'websocket',
    node,
    term: 1,
    state: 'active',
    uncommitted: 0,
    migrations: 0,
    openedAt: 1_700_000_000_000,
    address: '127.0.0.1',
    pendingBytes: 0,
  }
}

/** An operator whose answers a test sets by hand. It keeps shapes and errors, and moves nothing. */
export class FakeOperator implements Operator {
  readonly calls: { method: string; args: unknown[] }[] = []
  readonly nodeList: NodeView[] = [fakeNode('a'), fakeNode('b')]
  readonly sessionList: SessionView[] = [
    fakeSession('s1', 'a'),
    fakeSession('s2', 'a'),
    fakeSession('s3', 'b'),
    fakeSession('s/4 ü', 'b'),
  ]
  readonly listeners = new Set<(event: OperatorEvent) => void>()
  readonly gatewayId = 'gw-test'
  readonly startedAt = 1_700_000_000_000
  readonly limits = defaultLimits
  readonly counters: Counters = {
    ...newCounters(),
    connections: { websocket: 3, sse: 1, 'socket.io': 0, 'engine.io': 0, tcp: 2 },
    tcpBytes: { in: 10, out: 20 },
    messagesIn: 10,
    messagesOut: 20,
    messagesRedelivered: 2,
    staleFramesDropped: 1,
    backpressurePauses: 4,
    slowConsumers: { close: 5, drop: 0, coalesce: 0 },
    resumes: { here: 1, taken: 2, unknown: 3, token: 0, gap: 0, user: 0 },
    auth: { ...newCounters().auth, ok: 1, expired: 2 },
  }
  readonly pressure = 'normal'
  readonly detachedSessions = 6
  readonly runs: RunsView = {
    running: 7,
    read: 8,
    tokens: 900,
    started: 10,
    ended: { complete: 11, cancelled: 12, failed: 13 },
  }
  readonly upstreamCounters = {
    probes: { success: 7, failure: 2, void: 1 },
    ejections: { 'connect-failed': 0, 'error-response': 3, broken: 0 },
  }
  readonly upstreamList: UpstreamView[] = [fakeUpstream('u1')]
  ready: { ready: boolean; reasons: string[] } = { ready: true, reasons: [] }
  /** How a running operation ends; it does at the second look. */
  operationsEnd: 'done' | 'failed' = 'done'
  private readonly started = new Map<string, { operation: Operation; looks: number }>()

  nodes(): NodeView[] {
    return this.nodeList
  }

  node(id: string): NodeView {
    return find(this.nodeList, 'node', id)
  }

  setWeight(id: string, weight: number): NodeView {
    this.calls.push({ method: 'setWeight', args: [id, weight] })
    return Object.assign(this.node(id), { weight })
  }

  drain(id: string, options?: DrainOptions): Operation {
    this.calls.push({ method: 'drain', args: [id, options] })
    const node = this.node(id)
    if (node.state === 'down') throw new EvenkeelError('CONFLICT', `Node "${id}" is down.`)
    node.state = 'draining'
    return this.start('drain', id, 2)
  }

  activate(id: string): NodeView {
    return Object.assign(this.node(id), { state: 'active' as const })
  }

  rebalance(options: RebalanceOptions = {}): RebalanceResult[] {
    this.calls.push({ method: 'rebalance', args: [options] })
    const pools = [...new Set(this.nodeList.map((node) => node.pool))]
    const wanted = pools.filter((pool) => options.pool === undefined || pool === options.pool)
    if (options.pool !== undefined && wanted.length === 0) throw notFound('pool', options.pool)
    const dryRun = options.dryRun === true
    return wanted.map((pool) => ({
      pool,
      dryRun,
      moves: [{ from: 'a', to: 'b', count: 1 }],
      total: 1,
      imbalanceBefore: 0.5,
      imbalanceAfter: 0,
      operation: dryRun ? null : this.start('rebalance', pool, 1),
    }))
  }

  operation(id: string): Operation {
    const entry = this.started.get(id)
    if (entry === undefined) throw notFound('operation', id)
    const { operation } = entry
    if (++entry.looks >= 2 && operation.state === 'running') {
      Object.assign(operation, { state: this.operationsEnd, endedAt: operation.startedAt + 12 })
      if (this.operationsEnd === 'failed') operation.failed = operation.total
      else Object.assign(operation, { moved: operation.total, pauseMs: { p50: 0.5, p99: 1.25 } })
    }
    return { ...operation }
  }

  operations(): Operation[] {
    return [...this.started.values()].map(({ operation }) => ({ ...operation }))
  }

  sessions({ node, cursor, limit = 100 }: SessionQuery = {}): {
    sessions: SessionView[]
    next: string | null
  } {
    const all = this.sessionList.filter((session) => node === undefined || session.node === node)
    const first = cursor === undefined ? 0 : Number(cursor)
    const next = first + limit < all.length ? String(first + limit) : null
    return { sessions: all.slice(first, first + limit), next }
  }

  session(id: string): SessionDetails {
    return { ...find(this.sessionList, 'session', id), assignments: [] }
  }

  migrate(id: string, to: string): Operation {
    this.calls.push({ method: 'migrate', args: [id, to] })
    this.session(id)
    this.node(to)
    return this.start('migrate', id, 1)
  }

  closeSession(id: string): void {
    this.sessionList.splice(this.sessionList.indexOf(this.session(id)), 1)
  }

  readonly canaryList: CanaryView[] = []
  readonly canaries: CanaryOperator = {
    list: () => this.canaryList,
    get: (id) => find(this.canaryList, 'canary', id),
    start: (order) => {
      this.calls.push({ method: 'canary', args: [order] })
      const canary = fakeCanary(`c${this.canaryList.length + 1}`, order)
      this.canaryList.push(canary)
      return { canary, operation: this.start('canary', `${order.pool} ${order.version}`, 1) }
    },
    return: (id) => {
      const canary = Object.assign(find(this.canaryList, 'canary', id), { state: 'returning', percent: 0 })
      return { canary, operation: this.start('canary', `${canary.pool} ${canary.version}`, 1) }
    },
    promote: (id, percent) => {
      this.calls.push({ method: 'promote', args: [id, percent] })
      const canary = find(this.canaryList, 'canary', id)
      Object.assign(canary, percent === undefined ? { state: 'promoted', percent: 100 } : { percent })
      return { canary, operation: this.start('canary', `${canary.pool} ${canary.version}`, 1) }
    },
  }

  readiness(): { ready: boolean; reasons: string[] } {
    return this.ready
  }

  gateways() {
    const at = { state: 'active' as const, internalUrl: 'ws://127.0.0.1:8081', startedAt: this.startedAt }
    return [{ id: this.gatewayId, ...at, self: true }]
  }

  drainGateway(id: string): Operation {
    this.calls.push({ method: 'drainGateway', args: [id] })
    if (id !== this.gatewayId) throw notFound('gateway', id)
    return this.start('drain-gateway', id, 3)
  }

  channelMembers(channel: string): number {
    if (!isChannelName(channel)) throw new EvenkeelError('BAD_REQUEST', channelNameRule)
    return channel.length
  }

  async channelHistory(channel: string): Promise<ChannelView['history']> {
    return channel === 'quiet' ? null : { epoch: 'e1', offset: 42 }
  }

  publish(channel: string, data: string) {
    this.calls.push({ method: 'publish', args: [channel, data] })
    return Promise.resolve({ deliveredLocal: 2 })
  }

  upstreams(): UpstreamView[] {
    return this.upstreamList
  }

  async addUpstream({ pool, url, weight = 1, id = 'new' }: NewUpstream): Promise<UpstreamView> {
    if (url.includes('169.254.')) throw new EvenkeelError('FORBIDDEN', `url: ${url} is a metadata address`)
    const view = fakeUpstream(id, {
      pool,
      url,
      weight,
      origin: 'store',
      health: 'unhealthy',
      reason: 'not probed yet',
    })
    this.upstreamList.push(view)
    return view
  }

  async removeUpstream(id: string): Promise<void> {
    this.upstreamList.splice(this.upstreamList.indexOf(find(this.upstreamList, 'upstream', id)), 1)
  }

  onEvent(listener: (event: OperatorEvent) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  emit(event: OperatorEvent): void {
    for (const listener of this.listeners) listener(event)
  }

  private start(kind: Operation['kind'], subject: string, total: number): Operation {
    const operation: Operation = {
      id: `op-${this.started.size + 1}`,
      kind,
      subject,
      state: 'running',
      total,
      moved: 0,
      failed: 0,
      outcomes: {},
      pauseMs: null,
      startedAt: 1_700_000_000_000,
      endedAt: null,
    }
    this.started.set(operation.id, { operation, looks: 0 })
    return { ...operation }
  }
}

function find<T extends { id: string }>(list: T[], what: string, id: string): T {
  const found = list.find((one) => one.id === id)
  if (found === undefined) throw notFound(what, id)
  return found
}

function notFound(what: string, id: string): EvenkeelError {
  return new EvenkeelError('NOT_FOUND', `There is no ${what} "${id}".`)
}
