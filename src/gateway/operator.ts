import type { CanaryState } from '../core/balance/canary.ts'
import type { Measures, Pressure, Strain } from '../core/health/overload.ts'
import type { RefusalReason } from '../core/limits/rules.ts'
import type { Limits } from '../protocol/limits.ts'
import type { Continued, SessionMeta } from '../protocol/link-records.ts'
import type { CanaryOperator } from './canary-operator.ts'
import type { RunCounters } from './run-host.ts'
import type { NewUpstream, UpstreamCounters, UpstreamView } from './upstream-directory.ts'

/** What operators see and do. The admin API, metrics and the demo stand on this interface alone. */
export interface Operator {
  readonly gatewayId: string
  readonly startedAt: number
  readonly limits: Readonly<Limits>
  readonly counters: Readonly<Counters>
  /** Other than `normal`: new work is refused. */
  readonly pressure: Pressure
  /** Resumable sessions whose client is away now. */
  readonly detachedSessions: number

  readonly runs: Readonly<RunsView>

  /** The gateways of this cluster, this one first. */
  gateways(): GatewayView[]
  /**
   * No new clients for this gateway; those that are here leave, spread over `limits.gatewayDrainMs`. It stays so until
   * its process is stopped; a second call answers with the first one's operation. Throws NOT_FOUND (another gateway's id).
   */
  drainGateway(id: string): Operation
  nodes(): NodeView[]
  /** Throws NOT_FOUND. */
  node(id: string): NodeView
  /** Throws NOT_FOUND, BAD_REQUEST (weight must be a number above 0, at most 1e6). */
  setWeight(id: string, weight: number): NodeView
  /** Throws NOT_FOUND, CONFLICT (the node is down). */
  drain(id: string, options?: DrainOptions): Operation
  /** Throws NOT_FOUND, CONFLICT (the node is down). */
  activate(id: string): NodeView
  /** One plan per pool; executed unless `dryRun`. Throws NOT_FOUND (no such pool), DRAINING (this gateway plans no more). */
  rebalance(options?: RebalanceOptions): RebalanceResult[]
  /** Throws NOT_FOUND. */
  operation(id: string): Operation
  operations(): Operation[]
  /** In a stable order; `cursor` is the `next` of the page before. */
  sessions(query?: SessionQuery): { sessions: SessionView[]; next: string | null }
  /** Throws NOT_FOUND. */
  session(id: string): SessionDetails
  /** Moves one session. Throws NOT_FOUND (session, node), CONFLICT (already moving, node not eligible). */
  migrate(id: string, to: string): Operation
  /** Closes one client with 1000 unless a code is given. Throws NOT_FOUND. */
  closeSession(id: string, code?: number, reason?: string): void
  /** Sessions in the channel at this gateway. Throws BAD_REQUEST. */
  channelMembers(channel: string): number
  /** Where the channel's history ends; null: it has none, or Redis is away and this gateway does not know. */
  channelHistory(channel: string): Promise<ChannelView['history']>
  /** Fans out to the channel's members at all gateways. Throws BAD_REQUEST, NOT_READY (the bus is away). */
  publish(channel: string, data: string): Promise<{ deliveredLocal: number }>
  readonly upstreamCounters: Readonly<UpstreamCounters>
  /** The servers of this gateway's pools that are known by URL, also those that cannot be used. As nodes they are in `nodes()`. */
  upstreams(): UpstreamView[]
  /**
   * Adds one for all gateways; where it is and whether it may be there is looked at first, and nothing is sent to it before. Rejects with BAD_REQUEST (a field),
   * FORBIDDEN (its address), CONFLICT (the id is taken), TOO_MANY_REQUESTS (there are too many), NOT_READY (Redis is away).
   */
  addUpstream(upstream: NewUpstream): Promise<UpstreamView>
  /** Its sessions are drained. Rejects with NOT_FOUND, CONFLICT (it is listed elsewhere), NOT_READY (Redis is away). */
  removeUpstream(id: string): Promise<void>
  readonly canaries: CanaryOperator
  /** Ready with reasons: it serves, but what they name does not work. */
  readiness(): { ready: boolean; reasons: string[] }
  /** Returns the unsubscribe function. Listeners must not throw. */
  onEvent(listener: (event: OperatorEvent) => void): () => void
}

export interface GatewayView {
  id: string
  state: 'active' | 'draining'
  internalUrl: string
  startedAt: number
  /** True for the gateway that answers. */
  self: boolean
}

/** A channel in the whole cluster. */
export interface ChannelView {
  channel: string
  /** Sessions at the gateways that answered; one whose client is away counts until it is given up. */
  members: number
  /** The same by gateway id. */
  gateways: Record<string, number>
  /** Gateways of the cluster that did not answer: their members are not counted. */
  unanswered: string[]
  /** The newest position. */
  history: { epoch: string; offset: number } | null
}

export type NodeState = 'active' | 'draining' | 'drained' | 'down'
export type NodeHealth = 'healthy' | 'suspect' | 'down'

export interface NodeView {
  id: string
  pool: string
  weight: number
  state: NodeState
  health: NodeHealth
  /** Sessions at the node, over all gateways. */
  sessions: number
  /** Those of them that this gateway assigned. */
  sessionsHere: number
  /** What the node itself counts, as it said last. */
  reportedSessions: number
  /** Of this gateway. */
  sessionsByTransport: Record<SessionView['transport'], number>
  maxSessions: number | null
  /** Part of the pool's sessions, 0 to 1. */
  share: number
  /** Part of the pool's weight over active nodes, 0 to 1. */
  fairShare: number
  /** Client messages per second to the node over the last seconds. */
  messagesPerSecond: number
  /** Bytes per second of its sessions at this gateway, both ways. */
  bytesPerSecond: number
  /** From a message to its commit, or from a request to its answer, on average; null: nothing was answered yet. */
  responseMs: number | null
  /** What the pool is balanced by where that is not sessions: messages or bytes a second, or what the node reports. */
  load: number | null
  linkRttMs: number | null
  host: string
  /** null: an upstream. */
  pid: number | null
  connectedAt: number
  /** null: an upstream. */
  version: string | null
  /** Of an upstream; null: a node that is linked. */
  url: string | null
}

export interface SessionView {
  id: string
  pool: string
  transport: SessionMeta['transport']
  /** null while no node holds it. */
  node: string | null
  term: number
  /** detached: the client is away, and may come back. */
  state: 'active' | 'migrating' | 'waiting' | 'closing' | 'detached'
  /** Client messages that the node has not committed. */
  uncommitted: number
  migrations: number
  openedAt: number
  address: string
  /** What was sent to the client and its socket has not taken. */
  pendingBytes: number
}

/** Why a session came to a node: it was new, its node was lost, it came from another gateway, or it was moved. */
export type AssignmentReason = 'opened' | 'recovered' | 'resumed' | MigrationReason

export interface Assignment {
  node: string
  term: number
  /** Unix time in milliseconds. */
  at: number
  reason: AssignmentReason
}

export interface SessionDetails extends SessionView {
  /** The latest ones at this gateway, the oldest first. */
  assignments: readonly Assignment[]
}

/** Runs (token streams) of this gateway; totals since it started. */
export interface RunsView extends RunCounters {
  /** Held here, with a producer that is linked here. */
  running: number
  /** Read here, by one reader or more. */
  read: number
}

export interface SessionQuery {
  node?: string
  cursor?: string
  /** Only those whose client has not taken all that was sent to it. */
  slow?: boolean
  /** Default 100, at most 1,000. */
  limit?: number
}

export interface DrainOptions {
  /** Default: the limit `drainDeadlineMs`. */
  deadlineMs?: number
  /** Moves started per second, in place of the gateway's budget; 0: as fast as it goes. */
  ratePerSecond?: number
}

export interface RebalanceOptions {
  pool?: string
  dryRun?: boolean
}

export interface RebalanceResult {
  pool: string
  dryRun: boolean
  moves: { from: string; to: string; count: number }[]
  total: number
  /** Largest relative distance of a node from its fair share, 0 = even. */
  imbalanceBefore: number
  imbalanceAfter: number
  /** null on a dry run and when there is nothing to move. */
  operation: Operation | null
}

export interface Operation {
  id: string
  kind: 'drain' | 'drain-gateway' | 'rebalance' | 'migrate' | 'canary'
  /** The node or gateway that is drained, the pool that is rebalanced, the session that is migrated, or pool and version of a canary. */
  subject: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  total: number
  /** Of a gateway's drain: clients that have left it. */
  moved: number
  failed: number
  /** How the moves ended, by outcome; `failed` is all but `moved` and `source-lost`. */
  outcomes: Partial<Record<MigrationOutcome, number>>
  pauseMs: { p50: number; p99: number } | null
  startedAt: number
  endedAt: number | null
}

export type MigrationReason = 'rebalance' | 'drain' | 'operator' | 'canary' | 'node-lost'
/** `moved`, or why the session stayed. */
export type MigrationOutcome =
  | 'moved'
  | 'refused'
  | 'vetoed'
  | 'prepare-timeout'
  | 'quiesce-timeout'
  | 'source-lost'
  | 'target-lost'
  | 'session-closed'
  | 'cancelled'

/** Totals since the gateway started; `connections` are those open now. */
/**
 * What came of finding out who a client is: let in; without a token; a token that is not taken, by why; nobody there to judge it; not allowed by who was asked;
 * the token was replaced.
 */
export type AuthOutcome =
  | 'ok'
  | 'missing'
  | 'malformed'
  | 'algorithm'
  | 'key'
  | 'signature'
  | 'expired'
  | 'early'
  | 'claims'
  | 'unavailable'
  | 'denied'
  | 'refreshed'

export interface Counters {
  connections: Record<SessionMeta['transport'], number>
  /** Of `tcp` listeners, from clients (in) and to them. */
  tcpBytes: { in: number; out: number }
  messagesIn: number
  messagesOut: number
  messagesLost: number
  messagesDuplicated: number
  messagesRedelivered: number
  staleFramesDropped: number
  backpressurePauses: number
  /** Publishes of nodes that the bus did not take. */
  publishesFailed: number
  /** By what was done: clients closed, channel messages dropped or replaced by later ones. */
  slowConsumers: { close: number; drop: number; coalesce: number }
  /** Requests, connections and messages that limits or the load have not let in. */
  refused: Partial<Record<RefusalReason, number>>
  /** Clients that came back: to this gateway (here), from another one (taken), or in vain, by why. */
  resumes: { here: number; taken: number; unknown: number; token: number; gap: number; user: number }
  auth: Record<AuthOutcome, number>
}

/** All 0. */
export function newCounters(): Counters {
  return {
    connections: { websocket: 0, sse: 0, 'socket.io': 0, 'engine.io': 0, tcp: 0 },
    tcpBytes: { in: 0, out: 0 },
    messagesIn: 0,
    messagesOut: 0,
    messagesLost: 0,
    messagesDuplicated: 0,
    messagesRedelivered: 0,
    staleFramesDropped: 0,
    backpressurePauses: 0,
    publishesFailed: 0,
    slowConsumers: { close: 0, drop: 0, coalesce: 0 },
    refused: {},
    resumes: { here: 0, taken: 0, unknown: 0, token: 0, gap: 0, user: 0 },
    auth: {
      ok: 0,
      missing: 0,
      malformed: 0,
      algorithm: 0,
      key: 0,
      signature: 0,
      expired: 0,
      early: 0,
      claims: 0,
      unavailable: 0,
      denied: 0,
      refreshed: 0,
    },
  }
}

export type OperatorEvent = { at: number } & (
  | { type: 'node-up'; node: string; pool: string }
  | { type: 'node-suspect'; node: string }
  | { type: 'node-healthy'; node: string }
  | { type: 'node-down'; node: string; reason: string; sessions: number }
  | { type: 'node-weight'; node: string; weight: number }
  | { type: 'node-state'; node: string; state: NodeState }
  | {
      type: 'plan'
      pool: string
      moves: { from: string; to: string; count: number }[]
      imbalanceBefore: number
      imbalanceAfter: number
    }
  | {
      type: 'migration'
      session: string
      from: string | null
      to: string
      reason: MigrationReason
      outcome: MigrationOutcome
      pauseMs: number | null
      held: number
    }
  | ({ type: 'continued'; session: string; node: string } & Continued)
  | { type: 'operation'; operation: Operation }
  | {
      type: 'canary'
      canary: string
      pool: string
      version: string
      percent: number
      state: CanaryState
      reason: string
    }
  | { type: 'publish-failed'; node: string; channel: string; reason: string }
  | { type: 'session-lost'; session: string; reason: string }
  | { type: 'overload'; from: Pressure; to: Pressure; strain: Strain | null; measures: Measures }
  | { type: 'upstream-ignored'; upstream: string; reason: string }
)

type WithoutTime<Event> = Event extends { at: number } ? Omit<Event, 'at'> : never
/** An event before it is published. */
export type Untimed = WithoutTime<OperatorEvent>
