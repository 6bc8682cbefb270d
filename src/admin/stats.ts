import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Operator } from '../gateway/operator.ts'
import { imbalanceByPool } from './metrics.ts'

/** What one gateway saw in one interval. */
export interface StatsSample {
  /** Its end, Unix time in milliseconds. */
  at: number
  /** Clients that are connected to this gateway. */
  connections: number
  /** Messages per second, from clients and to them. */
  messagesIn: number
  messagesOut: number
  /** Migrations that moved their session, and those that did not. */
  moved: number
  stayed: number
  /** Of the migrations of this interval; null: there was none. */
  pauseMs: { p50: number; p99: number } | null
  /** By node, over all gateways; of more than 64 nodes nothing. */
  sessions: Record<string, number>
  /** By pool: the largest relative distance of an active node from its fair share. */
  imbalance: Record<string, number>
  /** The longest that the event loop was late. */
  lagMs: number
  memoryBytes: number
  /** Token streams that have their producer here, and those that are read here. */
  runs: { running: number; read: number }
  /** By what was done to slow clients in this interval. */
  slowConsumers: Record<string, number>
}

export interface Stats {
  /** Samples after this time, the oldest first. */
  since(at: number): StatsSample[]
  close(): void
}

const intervalMs = 1_000
const samplesKept = 300
const nodesMax = 64
const pausesKept = 10_000
const resolutionMs = 20

/** The last five minutes of a gateway, a sample a second. */
export function createStats(operator: Operator): Stats {
  const samples: StatsSample[] = []
  let pauses: number[] = []
  let stayed = 0
  let moved = 0
  let before = totals(operator)
  const unsubscribe = operator.onEvent((event) => {
    if (event.type !== 'migration') return
    if (event.outcome === 'moved') moved++
    else stayed++
    if (event.pauseMs !== null && pauses.length < pausesKept) pauses.push(event.pauseMs)
  })
  const delay = monitorEventLoopDelay({ resolution: resolutionMs })
  delay.enable()

  const timer = setInterval(() => {
    const now = totals(operator)
    const nodes = operator.nodes()
    const seconds = (now.at - before.at) / 1000
    samples.push({
      at: Date.now(),
      connections: now.connections,
      messagesIn: Math.round((now.messagesIn - before.messagesIn) / seconds),
      messagesOut: Math.round((now.messagesOut - before.messagesOut) / seconds),
      moved,
      stayed,
      pauseMs: quantiles(pauses),
      sessions: Object.fromEntries(
        nodes.length > nodesMax ? [] : nodes.map((node) => [node.id, node.sessions]),
      ),
      imbalance: Object.fromEntries(imbalanceByPool(nodes)),
      // The histogram records the time between ticks of its own timer.
      lagMs: Math.max(0, Math.round(delay.max / 1e6 - resolutionMs)),
      memoryBytes: process.memoryUsage.rss(),
      runs: { running: operator.runs.running, read: operator.runs.read },
      slowConsumers: difference(now.slowConsumers, before.slowConsumers),
    })
    if (samples.length > samplesKept) samples.shift()
    before = now
    pauses = []
    moved = 0
    stayed = 0
    delay.reset()
  }, intervalMs)
  timer.unref()

  return {
    since: (at) => samples.filter((sample) => sample.at > at),
    close() {
      clearInterval(timer)
      delay.disable()
      unsubscribe()
    },
  }
}

function totals({ counters }: Operator) {
  const { connections, messagesIn, messagesOut, slowConsumers } = counters
  const open = Object.values(connections).reduce((sum, count) => sum + count, 0)
  return {
    at: performance.now(),
    connections: open,
    messagesIn,
    messagesOut,
    slowConsumers: { ...slowConsumers },
  }
}

function difference(now: Record<string, number>, before: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(now).map(([name, count]) => [name, count - (before[name] ?? 0)]))
}

function quantiles(values: number[]): StatsSample['pauseMs'] {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
  return { p50: at(0.5), p99: at(0.99) }
}
