import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { NodeView, Operator } from '../gateway/operator.ts'
import { registerCanaries } from './canary-metrics.ts'
import type { ConfigControl } from './config-api.ts'
import { type EncryptionSources, registerEncryption } from './tls-metrics.ts'

const prefix = 'evenkeel_'
const eventLoopResolutionMs = 100
const pauseBucketsSeconds = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
]

export interface Metrics {
  readonly contentType: string
  /** The Prometheus text of this moment. */
  render(): Promise<string>
  /** Stops listening to the operator and measuring the event loop. */
  close(): void
}

/** Metrics of one gateway in a registry of their own, read from the operator when they are scraped. */
export function createMetrics(
  operator: Operator,
  config: ConfigControl | null = null,
  encryption: EncryptionSources = { tls: [], http2: null },
): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix, eventLoopMonitoringPrecision: eventLoopResolutionMs })
  registerNodes(registry, operator)
  registerUpstreams(registry, operator)
  registerConnections(registry, operator)
  registerTraffic(registry, operator)
  registerRuns(registry, operator)
  if (config !== null) registerReloads(registry, config)
  registerCanaries(registry, operator)
  registerEncryption(registry, prefix, encryption)
  const unsubscribe = registerMigrations(registry, operator)
  const delay = registerEventLoop(registry)
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    close() {
      unsubscribe()
      delay.disable()
      registry.clear()
    },
  }
}

function registerNodes(registry: Registry, operator: Operator): void {
  const perNode = (name: string, help: string, value: (node: NodeView) => number | null) =>
    new Gauge({
      name: prefix + name,
      help,
      labelNames: ['node'],
      registers: [registry],
      collect() {
        // Nodes come and go; what is gone must not stay in the answer.
        this.reset()
        for (const node of operator.nodes()) {
          const current = value(node)
          if (current !== null) this.set({ node: node.id }, current)
        }
      },
    })

  new Gauge({
    name: `${prefix}sessions`,
    help: 'Sessions that this gateway assigned to the node.',
    labelNames: ['node', 'transport'],
    registers: [registry],
    collect() {
      this.reset()
      for (const node of operator.nodes()) {
        for (const [transport, count] of Object.entries(node.sessionsByTransport))
          this.set({ node: node.id, transport }, count)
      }
    },
  })
  perNode('node_up', '1 while the node is connected and not declared down.', (node) => (isUp(node) ? 1 : 0))
  perNode('link_rtt_seconds', 'Last heartbeat round trip of the link to the node.', ({ linkRttMs }) =>
    linkRttMs === null ? null : linkRttMs / 1000,
  )
  perNode(
    'node_response_seconds',
    'From a message to its commit, or from a request to its answer, on average.',
    ({ responseMs }) => (responseMs === null ? null : responseMs / 1000),
  )
  perNode(
    'node_load',
    'What the pool is balanced by where that is not sessions: messages or bytes a second, or what the node reports.',
    ({ load }) => load,
  )
  new Gauge({
    name: `${prefix}imbalance_ratio`,
    help: 'Largest relative distance of an active node from its fair share of the pool; 0 is even.',
    labelNames: ['pool'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [pool, ratio] of imbalanceByPool(operator.nodes())) this.set({ pool }, ratio)
    },
  })
}

/** Largest |share − fair share| / fair share of the active nodes in each pool; 0 in a pool without sessions. */
export function imbalanceByPool(nodes: NodeView[]): Map<string, number> {
  const ratios = new Map<string, number>()
  for (const [pool, members] of Map.groupBy(nodes, (node) => node.pool)) {
    const busy = members.some((node) => node.sessions > 0)
    const distances = members
      .filter((node) => node.state === 'active' && node.fairShare > 0)
      .map((node) => Math.abs(node.share - node.fairShare) / node.fairShare)
    ratios.set(pool, busy ? Math.max(0, ...distances) : 0)
  }
  return ratios
}

function isUp(node: NodeView): boolean {
  return node.state !== 'down' && node.health !== 'down'
}

function registerUpstreams(registry: Registry, operator: Operator): void {
  new Gauge({
    name: `${prefix}upstreams`,
    help: 'Servers that are known by URL, by pool and health.',
    labelNames: ['pool', 'health'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { pool, health } of operator.upstreams()) this.inc({ pool, health })
    },
  })
  new Counter({
    name: `${prefix}upstream_probes_total`,
    help: 'Probes of upstreams by result; void: this gateway was stalled.',
    labelNames: ['result'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [result, count] of Object.entries(operator.upstreamCounters.probes))
        this.inc({ result }, count)
    },
  })
  new Counter({
    name: `${prefix}upstream_ejections_total`,
    help: 'Upstreams that were taken away because of their traffic, by what it met.',
    labelNames: ['cause'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [cause, count] of Object.entries(operator.upstreamCounters.ejections))
        this.inc({ cause }, count)
    },
  })
}

function registerConnections(registry: Registry, operator: Operator): void {
  new Gauge({
    name: `${prefix}connections`,
    help: 'Client connections that are open now.',
    labelNames: ['transport'],
    registers: [registry],
    collect() {
      for (const [transport, count] of Object.entries(operator.counters.connections))
        this.set({ transport }, count)
    },
  })
  new Gauge({
    name: `${prefix}detached_sessions`,
    help: 'Resumable sessions whose client is away now.',
    registers: [registry],
    collect() {
      this.set(operator.detachedSessions)
    },
  })
  new Gauge({
    name: `${prefix}overload_state`,
    help: '0: normal, 1: new work is refused, 2: new connections are cut.',
    registers: [registry],
    collect() {
      this.set(['normal', 'shedding', 'critical'].indexOf(operator.pressure))
    },
  })
  new Gauge({
    name: `${prefix}degraded`,
    help: '1 while something that the gateway needs is away; /readyz says what.',
    registers: [registry],
    collect() {
      this.set(operator.readiness().reasons.length > 0 ? 1 : 0)
    },
  })
}

function registerTraffic(registry: Registry, operator: Operator): void {
  const total = (name: string, help: string, value: () => number) =>
    new Counter({
      name: prefix + name,
      help,
      registers: [registry],
      collect() {
        this.reset()
        this.inc(value())
      },
    })
  const labelled = (name: string, help: string, label: string, values: () => Record<string, number>) =>
    new Counter({
      name: prefix + name,
      help,
      labelNames: [label],
      registers: [registry],
      collect() {
        this.reset()
        for (const [key, value] of Object.entries(values())) this.inc({ [label]: key }, value)
      },
    })

  labelled('messages_total', 'Messages from clients (in) and to clients (out).', 'direction', () => ({
    in: operator.counters.messagesIn,
    out: operator.counters.messagesOut,
  }))
  labelled(
    'tcp_bytes_total',
    'Bytes of tcp listeners from clients (in) and to clients (out).',
    'direction',
    () => ({
      ...operator.counters.tcpBytes,
    }),
  )
  total('messages_lost_total', 'Messages known to be lost.', () => operator.counters.messagesLost)
  total(
    'messages_duplicated_total',
    'Messages known to be delivered twice.',
    () => operator.counters.messagesDuplicated,
  )
  total(
    'messages_redelivered_total',
    'Uncommitted messages delivered to a node again.',
    () => operator.counters.messagesRedelivered,
  )
  total(
    'stale_frames_dropped_total',
    'Frames of an older term that were dropped.',
    () => operator.counters.staleFramesDropped,
  )
  total(
    'backpressure_pauses_total',
    'Times that a slow reader paused its sender.',
    () => operator.counters.backpressurePauses,
  )
  total(
    'publishes_failed_total',
    'Publishes of nodes that Redis did not take.',
    () => operator.counters.publishesFailed,
  )
  labelled(
    'resumes_total',
    'Clients that came back for their session, by what they found.',
    'result',
    () => ({
      ...operator.counters.resumes,
    }),
  )
  labelled('refused_total', 'What limits or the load have not let in, by why.', 'reason', () => ({
    ...operator.counters.refused,
  }))
  labelled(
    'auth_total',
    'Clients that showed who they are, or should have, by what came of it.',
    'outcome',
    () => ({ ...operator.counters.auth }),
  )
  labelled('slow_consumers_total', 'Slow clients, by what was done about them.', 'action', () => ({
    ...operator.counters.slowConsumers,
  }))
}

function registerRuns(registry: Registry, operator: Operator): void {
  new Gauge({
    name: `${prefix}runs`,
    help: 'Token streams whose producer is linked here (running), and those that are read here (read).',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const { running, read } = operator.runs
      this.set({ state: 'running' }, running)
      this.set({ state: 'read' }, read)
    },
  })
  const total = (name: string, help: string, value: () => number) =>
    new Counter({
      name: prefix + name,
      help,
      registers: [registry],
      collect() {
        this.reset()
        this.inc(value())
      },
    })
  total('run_tokens_total', 'Deltas of token streams that were logged.', () => operator.runs.tokens)
  total('runs_started_total', 'Token streams that were started here.', () => operator.runs.started)
  new Counter({
    name: `${prefix}runs_ended_total`,
    help: 'Token streams that ended here, by how.',
    labelNames: ['outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [outcome, count] of Object.entries(operator.runs.ended)) this.inc({ outcome }, count)
    },
  })
}

function registerReloads(registry: Registry, config: ConfigControl): void {
  new Counter({
    name: `${prefix}config_reloads_total`,
    help: 'Times that the configuration was read again, by what came of it; invalid and failed change nothing.',
    labelNames: ['outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [outcome, count] of Object.entries(config.reloads)) this.inc({ outcome }, count)
    },
  })
}

function registerMigrations(registry: Registry, operator: Operator): () => void {
  const migrations = new Counter({
    name: `${prefix}migrations_total`,
    help: 'Migrations that ended, by reason and outcome.',
    labelNames: ['reason', 'outcome'],
    registers: [registry],
  })
  const pauses = new Histogram({
    name: `${prefix}migration_pause_seconds`,
    help: "Time for which a migration held a client's messages, from quiesce to activate.",
    buckets: pauseBucketsSeconds,
    registers: [registry],
  })
  const continued = new Counter({
    name: `${prefix}continued_sessions_total`,
    help: 'Socket.IO sessions that have come to another node, by how they go on there: exact, soft (connected anew), close.',
    labelNames: ['cause', 'tier'],
    registers: [registry],
  })
  return operator.onEvent((event) => {
    if (event.type === 'continued') continued.inc({ cause: event.cause, tier: event.tier })
    if (event.type !== 'migration') return
    migrations.inc({ reason: event.reason, outcome: event.outcome })
    if (event.pauseMs !== null) pauses.observe(event.pauseMs / 1000)
  })
}

function registerEventLoop(registry: Registry): ReturnType<typeof monitorEventLoopDelay> {
  const delay = monitorEventLoopDelay({ resolution: eventLoopResolutionMs })
  delay.enable()
  new Gauge({
    name: `${prefix}event_loop_lag_seconds`,
    help: '99th percentile of the event-loop delay since the scrape before.',
    registers: [registry],
    collect() {
      // The histogram records the time between ticks of its own timer, so the timer's period comes off.
      const lagMs = delay.percentile(99) / 1e6 - eventLoopResolutionMs
      this.set(Math.max(0, lagMs) / 1000)
      delay.reset()
    },
  })
  return delay
}
