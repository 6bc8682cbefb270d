/** What this page reads of the admin API's answers. */

export interface NodeView {
  id: string
  pool: string
  weight: number
  state: 'active' | 'draining' | 'drained' | 'down'
  health: 'healthy' | 'suspect' | 'down'
  sessions: number
  share: number
  fairShare: number
  messagesPerSecond: number
  responseMs: number | null
  linkRttMs: number | null
  maxSessions: number | null
  host: string
  version: string | null
}

export interface GatewayView {
  id: string
  state: 'active' | 'draining'
  internalUrl: string
  startedAt: number
  self: boolean
}

export interface Stats {
  at: number
  connections: number
  messagesIn: number
  messagesOut: number
  moved: number
  stayed: number
  pauseMs: { p50: number; p99: number } | null
  sessions: Record<string, number>
  imbalance: Record<string, number>
  lagMs: number
  memoryBytes: number
  runs: { running: number; read: number }
  slowConsumers: Record<string, number>
}

export interface SessionView {
  id: string
  pool: string
  transport: string
  node: string | null
  term: number
  state: string
  uncommitted: number
  migrations: number
  openedAt: number
  address: string
  pendingBytes: number
}

export interface SessionDetails extends SessionView {
  assignments: readonly { node: string; term: number; at: number; reason: string }[]
}

export interface SessionsPage {
  sessions: SessionView[]
  next: string | null
}

export interface Operation {
  id: string
  kind: string
  subject: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  total: number
  moved: number
  failed: number
  pauseMs: { p50: number; p99: number } | null
  startedAt: number
  endedAt: number | null
}

export interface Plan {
  pool: string
  moves: { from: string; to: string; count: number }[]
  total: number
  imbalanceBefore: number
  imbalanceAfter: number
  operation: Operation | null
}
