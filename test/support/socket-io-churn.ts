import { setTimeout as pause } from 'node:timers/promises'
import { AdminError } from './admin-client.ts'
import { timesOf } from './chaos.ts'
import { ChaosFaults, type FaultKind } from './chaos-faults.ts'
import { createRandom, type Random } from './random.ts'
import { CallableProcess } from './resumable-calls.ts'
import { ResumableCluster } from './resumable-cluster.ts'
import type { SocketIoCrowdActions } from './socket-io-crowd-process.ts'
import { judgeSocketIo, type SocketIoVerdict } from './socket-io-judge.ts'
import type { Note } from './socket-io-ledger.ts'

export interface SocketIoChurnOptions {
  seed: number
  clients: number
  /** Of all clients together. */
  eventsPerSecond: number
  /** Each node broadcasts to all clients this often. */
  castEveryMs: number
  migrationsPerSecond: number
  /** It goes on until so many were committed, all faults have been, and the time is over. */
  migrations: number
  seconds: number
  /** Each of these happens, in random order; while there is time others of these kinds follow. */
  faults: readonly FaultKind[]
}

export interface SocketIoChurnReport {
  seconds: number
  sent: number
  outcomes: Record<string, number>
  pauseMs: { p50: number; p99: number; max: number }
  faults: Record<string, number>
  verdict: SocketIoVerdict
}

const migrateEveryMs = 50
const recoveryMs = 60_000
const calmMs = { least: 200, most: 800 }
const limits = { gatewaysLeast: 1, gatewaysMost: 2, nodesLeast: 2, nodesMost: 4 }

/** Real clients talk over two gateways to three nodes while their sessions move, and while what `faults` says is done. */
export async function runSocketIoChurn(options: SocketIoChurnOptions): Promise<SocketIoChurnReport> {
  const random = createRandom(options.seed)
  await using cluster = await ResumableCluster.start({
    gateways: 2,
    nodes: [{}, {}, {}],
    nodeApp: 'test/support/socket-io-ledger-node.ts',
    config: { rebalance: { intervalMs: 2_000 } },
  })
  await using crowd = new CallableProcess<SocketIoCrowdActions>(
    'crowd',
    'test/support/socket-io-crowd-process.ts',
  )
  const { clients, eventsPerSecond, seed } = options
  const url = cluster.clientUrl.replace(/^ws:(.*)\/ws$/, 'http:$1')
  await crowd.call('connect', { url, clients, eventsPerSecond, seed })
  const churn = new Churn(cluster, crowd, random, options)
  const startedAt = performance.now()
  await crowd.call('talk')
  await churn.run()
  await crowd.call('settle')
  await churn.quiet()
  const events = cluster.gateways.flatMap((gateway) => gateway.events.of('migration'))
  return {
    seconds: (performance.now() - startedAt) / 1000,
    sent: await crowd.call('sent'),
    outcomes: countBy(events.map(({ reason, outcome }) => `${reason} ${outcome}`)),
    pauseMs: timesOf(events.flatMap(({ pauseMs }) => (pauseMs === null ? [] : [pauseMs]))),
    faults: churn.faults.done,
    verdict: judgeSocketIo(await crowd.call('epochs'), churn.notes(), churn.faults.kills),
  }
}

export function socketIoChurnSummary({
  seconds,
  sent,
  outcomes,
  pauseMs,
  faults,
  verdict,
}: SocketIoChurnReport): string {
  const { lost, doubled, reordered, corrupted, disconnects, changed, notes } = verdict
  const { redelivered, unanswered, rolledBack, reattached, reconnected } = verdict
  const ms = (value: number) => `${value.toFixed(1)} ms`
  return [
    `socket.io ${seconds.toFixed(0)} s; ${verdict.clients} clients; ${counts(faults) || 'no faults'}`,
    `events    ${sent} sent, ${verdict.handled} handled, ${verdict.acked} acknowledged at once, ${verdict.casts} broadcasts received`,
    `wrong     ${counts({ lost, doubled, reordered, corrupted, disconnects, changed })}`,
    `killed    ${counts({ redelivered, unanswered, rolledBack, reattached, reconnected })}`,
    `moves     ${counts(outcomes)}`,
    `pause     p50 ${ms(pauseMs.p50)}, p99 ${ms(pauseMs.p99)}, most ${ms(pauseMs.max)}`,
    ...notes.map((note) => `note      ${note}`),
  ].join('\n')
}

class Churn {
  readonly faults: ChaosFaults
  private readonly cluster: ResumableCluster
  private readonly crowd: CallableProcess<SocketIoCrowdActions>
  private readonly random: Random
  private readonly options: SocketIoChurnOptions
  private stopped = false

  constructor(
    cluster: ResumableCluster,
    crowd: CallableProcess<SocketIoCrowdActions>,
    random: Random,
    options: SocketIoChurnOptions,
  ) {
    this.cluster = cluster
    this.crowd = crowd
    this.random = random
    this.options = options
    this.faults = new ChaosFaults(cluster, random, limits)
  }

  async run(): Promise<void> {
    const until = performance.now() + this.options.seconds * 1000
    this.startCasting()
    const migrating = this.keepMigrating()
    // Awaited below; until then a failure must not end the process.
    migrating.catch(() => {
      this.stopped = true
    })
    try {
      await this.keepFaulting(until)
      while (!this.stopped && (performance.now() < until || this.committed < this.options.migrations))
        await pause(50)
    } finally {
      this.stopped = true
      await migrating
    }
  }

  /** No more broadcasts; everyone has the last ones. */
  async quiet(): Promise<void> {
    for (const node of this.cluster.runningNodes) node.send({ castEveryMs: null })
    const last: Record<string, number> = {}
    const alive = new Set(this.cluster.runningNodes.map(({ id }) => id))
    // What was said before the message channel brought this is in the ledger soon.
    await pause(100)
    for (const { what, node, n } of this.notes()) if (what === 'cast' && alive.has(node)) last[node] = n
    await this.crowd.call('heard', last)
  }

  notes(): Note[] {
    return this.cluster.ledgerLines().map((line) => JSON.parse(line) as Note)
  }

  private get committed(): number {
    return this.cluster.gateways
      .flatMap(({ events }) => events.of('migration'))
      .filter(({ outcome }) => outcome === 'moved').length
  }

  private startCasting(): void {
    const { castEveryMs } = this.options
    for (const node of this.cluster.runningNodes) node.send({ castEveryMs })
  }

  /** Never a second fault before all have recovered from the first. */
  private async keepFaulting(until: number): Promise<void> {
    const { faults, random, cluster, crowd } = this
    const wanted = [...this.options.faults]
    const kinds = [...new Set(wanted)]
    while (wanted.length > 0 || (kinds.length > 0 && performance.now() < until)) {
      const possible = faults.possible()
      const due = (wanted.length > 0 ? wanted : kinds).filter((kind) => possible.includes(kind))
      // What ends something is possible again when there is another one of it.
      const kind = random.pick(
        due.length > 0 ? due : possible.filter((one) => one === 'node started' || one === 'gateway started'),
      )
      if (wanted.includes(kind)) wanted.splice(wanted.indexOf(kind), 1)
      await faults.perform(kind)
      await cluster.whole(recoveryMs)
      await crowd.call('fence', recoveryMs)
      const crashed = faults.crashed()
      if (crashed.length > 0) throw new Error(`crashed after ${kind}: ${crashed.join('\n')}`)
      this.startCasting()
      await pause(random.int(calmMs.least, calmMs.most))
    }
  }

  private async keepMigrating(): Promise<void> {
    const perRound = (this.options.migrationsPerSecond * migrateEveryMs) / 1000
    let due = 0
    while (!this.stopped) {
      due += perRound
      const count = Math.floor(due)
      due -= count
      await Promise.all([this.migrateSome(count), pause(migrateEveryMs)])
    }
  }

  /** Each to a random node. */
  private async migrateSome(count: number): Promise<void> {
    const { cluster, random } = this
    try {
      const gateway = random.pick(cluster.runningGateways)
      const targets = (await gateway.admin.nodes()).filter(({ state }) => state === 'active')
      for (const { id, node } of random.sample(await gateway.sessions(), count)) {
        const others = targets.filter((target) => target.id !== node)
        if (others.length > 0) await gateway.admin.migrate(id, random.pick(others).id)
      }
    } catch (error) {
      // It moves already, or has ended; or the gateway was killed.
      if (!(error instanceof AdminError) && !(error instanceof TypeError)) throw error
    }
  }
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

function counts(values: Record<string, number>): string {
  return Object.entries(values)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')
}
