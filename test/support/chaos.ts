import { setTimeout as pause } from 'node:timers/promises'
import { ChaosFaults, type ChaosLimits, type FaultKind } from './chaos-faults.ts'
import { ChaosPublisher } from './chaos-publisher.ts'
import { isFair, type Share } from './churn.ts'
import { type HandlingVerdict, judgeHandlings } from './ledger.ts'
import { createRandom, type Random } from './random.ts'
import { ResumableCluster } from './resumable-cluster.ts'
import type { ResumableVerdict } from './resumable-crowd.ts'
import { ResumableCrowds } from './resumable-crowds.ts'

export interface ChaosOptions extends ChaosLimits {
  seed: number
  clients: number
  crowdProcesses: number
  messagesPerSecond: number
  rooms: number
  roomsEach: number
  /** To each channel. */
  publishesPerSecond: number
  /** Every one of these happens, in random order; others follow until the time is over. */
  atLeast: FaultKind[]
  /** No more restarts of Redis than `atLeast` has. */
  seconds: number
  /** What the gateways' configuration says of `limits`. */
  limits?: Record<string, number>
}

export interface Times {
  p50: number
  p99: number
  max: number
}

export interface Recovery {
  fault: FaultKind
  /** Until what was to be done was done. */
  tookMs: number
  /** From then on, until every client was answered, every gateway had every node, and channels delivered. */
  recoveredMs: number
}

export interface ChaosReport {
  seconds: number
  /** How often each was done. */
  faults: Record<string, number>
  clients: ResumableVerdict
  nodes: HandlingVerdict
  /** Why links were closed that somebody took for faulty. */
  violations: string[]
  /** Messages published, and those of which nobody knows whether they went out. */
  published: { sent: number; uncertain: number }
  shares: Share[]
  /** Sessions that the gateways have in the end; as many as clients. */
  sessions: number
  /** Of every client after every fault: from the end of the fault to an answer over an open connection. */
  recoverMs: Times
  /** In order. */
  recoveries: Recovery[]
  /** From the loss of a connection to the next welcome. */
  awayMs: Times
  /** From a message to its echo. */
  answerMs: Times
  /** Of hand-overs. */
  pauseMs: Times
}

const balanceMs = 10_000
/** Far more than it takes. */
const recoveryMs = 90_000
/** Between recovery and the next fault. */
const calmMs = { least: 100, most: 500 }
const lazyEvery = 4
/** Handlers that take a while, so that there is always something in flight. */
const mix = { slowShare: 0.6, slowMs: 60 }
const history = { size: 2_000, ttlMs: 600_000 }

/** Kills, drains and restarts everything there is, one after the other, while clients and channels talk. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const random = createRandom(options.seed)
  const rooms = Array.from({ length: options.rooms }, (_, i) => `room:${i + 1}`)
  await using cluster = await startCluster(options, random)
  await using crowds = await connectCrowds(options, cluster, rooms)
  const publisher = new ChaosPublisher(cluster, rooms, random)
  const faults = new ChaosFaults(cluster, random, options)
  await crowds.startSending()
  publisher.start(options.publishesPerSecond)
  // A client that has no position yet cannot be told what it has missed.
  await crowds.roomsReach(await publisher.fresh())
  const startedAt = performance.now()
  const recovery = await keepFaulting(options, random, { cluster, crowds, faults, publisher })
  const seconds = (performance.now() - startedAt) / 1000
  const shares = await balanced(cluster)
  await publisher.stop()
  await crowds.settle()
  await crowds.roomsEnd(publisher.published)
  const { published } = publisher
  const { answerMs, awayMs } = await crowds.times()
  return {
    seconds,
    faults: faults.done,
    clients: await crowds.verdict({ published, lossesAt: faults.lossesAt }),
    nodes: judgeHandlings(cluster.handlings()),
    violations: violations(cluster),
    published: { sent: publisher.count, uncertain: publisher.failures },
    shares,
    sessions: (await cluster.sessions()).length,
    ...recovery,
    awayMs: timesOf(awayMs),
    answerMs: timesOf(answerMs),
    pauseMs: timesOf(pauses(cluster)),
  }
}

function startCluster(options: ChaosOptions, random: Random): Promise<ResumableCluster> {
  const nodes = Array.from({ length: options.nodesMost }, () => ({
    delivery: 'atomic' as const,
    weight: random.int(1, 3),
  }))
  const config = {
    rebalance: { intervalMs: 1_000 },
    ...(options.rooms === 0 ? {} : { channels: { history: [{ match: 'room:*', ...history }] } }),
    limits: options.limits ?? {},
  }
  return ResumableCluster.start({ gateways: options.gatewaysMost, nodes, config })
}

function connectCrowds(
  options: ChaosOptions,
  cluster: ResumableCluster,
  rooms: string[],
): Promise<ResumableCrowds> {
  const { clients, messagesPerSecond, seed, roomsEach, crowdProcesses } = options
  return ResumableCrowds.connect(
    { url: cluster.clientUrl, clients, messagesPerSecond, seed, mix, lazyEvery, rooms, roomsEach },
    crowdProcesses,
  )
}

interface Scene {
  cluster: ResumableCluster
  crowds: ResumableCrowds
  faults: ChaosFaults
  publisher: ChaosPublisher
}

/** Never a second fault before all have recovered from the first. */
async function keepFaulting(
  { atLeast, seconds }: ChaosOptions,
  random: Random,
  { cluster, crowds, faults, publisher }: Scene,
): Promise<Pick<ChaosReport, 'recoverMs' | 'recoveries'>> {
  const wanted = [...atLeast]
  const recoverMs: number[] = []
  const recoveries: Recovery[] = []
  const startedAt = performance.now()
  const leftMs = () => startedAt + seconds * 1000 - performance.now()
  while (wanted.length > 0 || leftMs() > 0) {
    const kind = nextFault(faults.possible(), wanted, random, leftMs() > 0)
    const begunAt = performance.now()
    await faults.perform(kind)
    const doneAt = performance.now()
    try {
      recoverMs.push(...(await crowds.fence(recoveryMs)))
      await cluster.whole(recoveryMs)
      if (kind === 'Redis restarted') await crowds.roomsReach(await publisher.fresh())
    } catch (cause) {
      const before = recoveries.map(({ fault }) => `${fault}, `).join('')
      const sessions = (await cluster.sessions()).filter(({ uncommitted }) => uncommitted > 0)
      throw new Error(`not recovered from: ${before}${kind}\n${JSON.stringify(sessions)}\n${cause}`)
    }
    const crashed = faults.crashed()
    if (crashed.length > 0) throw new Error(`crashed after ${kind}: ${crashed.join('\n')}`)
    recoveries.push({ fault: kind, tookMs: doneAt - begunAt, recoveredMs: performance.now() - doneAt })
    await pause(random.int(calmMs.least, calmMs.most))
  }
  return { recoverMs: timesOf(recoverMs), recoveries }
}

/** One that is still wanted, now and then; without time left, these alone, or what makes one of them possible. */
function nextFault(possible: FaultKind[], wanted: FaultKind[], random: Random, timeLeft: boolean): FaultKind {
  const due = possible.filter((kind) => wanted.includes(kind))
  const others = possible.filter((kind) => kind !== 'Redis restarted')
  const enabling = others.filter((kind) => wanted.some((one) => subjectOf(one) === subjectOf(kind)))
  const choice = timeLeft ? (random.chance(0.5) ? due : others) : due.length > 0 ? due : enabling
  const kind = random.pick(choice.length > 0 ? choice : others)
  const at = wanted.indexOf(kind)
  if (at >= 0) wanted.splice(at, 1)
  return kind
}

function subjectOf(kind: FaultKind): string {
  return kind.split(' ')[0]!
}

/** Waits until every active node has its share, or gives up: then the shares are as they are. */
async function balanced(cluster: ResumableCluster): Promise<Share[]> {
  for (const until = performance.now() + balanceMs; ; await pause(100)) {
    const shares = await cluster.shares()
    if (shares.every(isFair) || performance.now() > until) return shares
  }
}

/** Nobody in here breaks the protocol of links. */
function violations(cluster: ResumableCluster): string[] {
  const downs = cluster.gateways.flatMap(({ events }) => events.of('node-down'))
  return downs.map(({ node, reason }) => `${node}: ${reason}`).filter((text) => text.includes(': 44'))
}

function pauses(cluster: ResumableCluster): number[] {
  return cluster.gateways.flatMap(({ events }) =>
    events.of('migration').flatMap(({ pauseMs }) => (pauseMs === null ? [] : [pauseMs])),
  )
}

export function timesOf(times: readonly number[]): Times {
  const sorted = Float64Array.from(times).toSorted()
  const at = (quantile: number) => sorted[Math.max(0, Math.ceil(sorted.length * quantile) - 1)] ?? 0
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}
