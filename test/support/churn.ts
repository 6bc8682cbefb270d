import { setTimeout as pause } from 'node:timers/promises'
import { ChurnActions } from './churn-actions.ts'
import { type Cluster, startCluster } from './cluster.ts'
import type { CrowdVerdict } from './crowd.ts'
import { type HandlingVerdict, judgeHandlings } from './ledger.ts'
import { createRandom } from './random.ts'
import { RemoteCrowd } from './remote-crowd.ts'

export interface ChurnOptions {
  seed: number
  clients: number
  messagesPerSecond: number
  /** Messages whose handler may outlast the quiesce deadline. */
  stuckShare: number
  nodesLeast: number
  nodesMost: number
  /** Single sessions that are sent to a random node, per second. */
  migrationsPerSecond: number
  /** It goes on for this long and until the goals are reached, but no longer than `secondsMost`. */
  seconds: number
  secondsMost: number
  goals: ChurnGoals
}

export interface ChurnGoals {
  /** Committed moves. */
  moves: number
  /** Of these, with messages held. */
  held: number
  /** Moves that ended with the session where it was. */
  aborts: number
  /** Messages that were answered. */
  answers: number
}

export interface Share {
  node: string
  weight: number
  sessions: number
  fair: number
}

export interface ChurnReport {
  seconds: number
  reached: ChurnGoals
  /** How often each was done. */
  actions: Record<string, number>
  outcomes: Record<string, number>
  pauseMs: { p50: number; p99: number; max: number }
  clients: CrowdVerdict
  nodes: HandlingVerdict
  shares: Share[]
  /** Sessions that the gateway has in the end; as many as clients. */
  sessions: number
  /** Nodes that count other sessions than the gateway has given them. */
  leaks: string[]
}

/** Long handlers run into it, some at the last moment; the others do not. */
const quiesceMs = 200
/** So small that outputs wait for credit now and then. */
const clientBufferBytes = 32 * 1024
const balanceMs = 10_000

/** Everything that operators and deploys do to nodes, at random, while clients talk to them. */
export async function runChurn(options: ChurnOptions): Promise<ChurnReport> {
  const random = createRandom(options.seed)
  const config = { limits: { quiesceMs, clientBufferBytes }, rebalance: { intervalMs: 1_000 } }
  await using cluster = await startCluster({ config })
  await using crowd = await startCrowd(cluster, options)
  const actions = new ChurnActions(cluster, crowd, random, options)
  const startedAt = performance.now()
  const elapsed = () => (performance.now() - startedAt) / 1000
  await actions.start()
  await crowd.startSending()
  let reached = await progress(cluster, crowd)
  while (
    elapsed() < options.secondsMost &&
    (elapsed() < options.seconds || unreached({ reached }, options.goals).length > 0)
  ) {
    await actions.one()
    reached = await progress(cluster, crowd)
  }
  const seconds = elapsed()
  await actions.stop()
  const shares = await balanced(cluster)
  await crowd.settle()
  return {
    seconds,
    reached: await progress(cluster, crowd),
    actions: actions.done,
    outcomes: countBy(cluster.events.of('migration').map(({ outcome }) => outcome)),
    pauseMs: pauses(cluster),
    clients: await crowd.verdict(),
    nodes: judgeHandlings(cluster.handlings()),
    shares,
    ...(await leftovers(cluster)),
  }
}

/** The clients come while one node is there; the others join under load. */
async function startCrowd(cluster: Cluster, options: ChurnOptions): Promise<RemoteCrowd> {
  await cluster.addNode({ chatty: true })
  const { clients, messagesPerSecond, seed } = options
  return RemoteCrowd.connect({
    url: cluster.clientUrl,
    clients,
    messagesPerSecond,
    seed,
    mix: {
      stuckShare: options.stuckShare,
      stuckMs: { least: quiesceMs - 40, most: quiesceMs + 60 },
      largeShare: 0.05,
      largePadBytes: clientBufferBytes / 3,
      burstShare: 0.2,
    },
  })
}

async function progress(cluster: Cluster, crowd: RemoteCrowd): Promise<ChurnGoals> {
  const moves = cluster.events.of('migration')
  const committed = moves.filter(({ outcome }) => outcome === 'moved')
  return {
    moves: committed.length,
    held: committed.filter(({ held }) => held > 0).length,
    aborts: moves.length - committed.length,
    answers: (await crowd.progress()).echoes,
  }
}

/** The goals that were missed: a run in which nothing happened proves nothing. */
export function unreached({ reached }: { reached: ChurnGoals }, goals: ChurnGoals): string[] {
  return (Object.keys(goals) as (keyof ChurnGoals)[]).filter((goal) => reached[goal] < goals[goal])
}

/** Waits until every active node has its share, or gives up: then the shares are as they are. */
async function balanced(cluster: Cluster): Promise<Share[]> {
  const until = performance.now() + balanceMs
  for (;;) {
    const shares = await sharesOf(cluster)
    if (shares.every(isFair) || performance.now() > until) return shares
  }
}

/** Nodes say every two seconds how many sessions they hold. */
async function leftovers(cluster: Cluster): Promise<Pick<ChurnReport, 'sessions' | 'leaks'>> {
  const until = performance.now() + balanceMs
  for (;;) {
    const nodes = await cluster.admin.nodes()
    const wrong = nodes.filter(
      ({ state, sessions, reportedSessions }) => state !== 'down' && sessions !== reportedSessions,
    )
    if (wrong.length === 0 || performance.now() > until) {
      const leaks = wrong.map(
        ({ id, sessions, reportedSessions }) => `${id}: ${reportedSessions} instead of ${sessions}`,
      )
      return { sessions: (await cluster.admin.sessions()).length, leaks }
    }
    await pause(100)
  }
}

async function sharesOf(cluster: Cluster): Promise<Share[]> {
  const active = (await cluster.admin.nodes()).filter(({ state }) => state === 'active')
  const sessions = active.reduce((sum, node) => sum + node.sessions, 0)
  const weights = active.reduce((sum, node) => sum + node.weight, 0)
  return active.map((node) => ({
    node: node.id,
    weight: node.weight,
    sessions: node.sessions,
    fair: (sessions * node.weight) / weights,
  }))
}

/** Within 5 % of the fair share, or within one session. */
export function isFair({ sessions, fair }: Share): boolean {
  return Math.abs(sessions - fair) <= Math.max(0.05 * fair, 1)
}

function pauses(cluster: Cluster): ChurnReport['pauseMs'] {
  const moved = cluster.events.of('migration').filter(({ outcome }) => outcome === 'moved')
  const sorted = moved.map(({ pauseMs }) => pauseMs ?? 0).toSorted((a, b) => a - b)
  const at = (quantile: number) => sorted[Math.ceil(sorted.length * quantile) - 1] ?? 0
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}
