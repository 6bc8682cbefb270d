import type { LoadResult, StallResult } from '../load/commands.ts'
import { Load } from '../load/handle.ts'
import { peakRssKib, quickRssKib } from '../measure/memory.ts'
import { median, medianRatio } from '../measure/statistics.ts'
import { startEvenkeel } from '../peers/evenkeel.ts'
import { assertAlive, type Peer } from '../peers/peer.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import {
  checkLoad,
  checkOpened,
  payloadBytes,
  type Report,
  type Scenario,
  type Settings,
} from './scenario.ts'

const goodClients = 200
const messagesPerSecond = 2_000
const floodBytes = 2 ** 30

interface Round {
  baselineP50: number
  baselineP99: number
  stalledP50: number
  stalledP99: number
  baselineRssMib: number
  peakRssMib: number
  nodePeakRssMib: number
  /** While it reads again and gets all that was waiting. */
  catchUpPeakRssMib: number
  /** When the client reads again. */
  received: StallResult
}

export const slowClient: Scenario = {
  name: 'slow-client',
  summary: 'one client stops reading while its node sends it 1 GiB; 200 others go on',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peer = await startEvenkeel()
  const load = await Load.start()
  const { port, path } = peer
  checkOpened(
    'evenkeel',
    await load.call('open', { port, path, connections: goodClients, payloadBytes }),
    remarks,
  )
  settings.progress('warming up')
  await load.call('closedLoop', { outstanding: 1, warmMs: 500, windowMs: 500, watch: {} })
  const rounds: Round[] = []
  const repeats = settings.quick ? 1 : 3
  for (let i = 0; i < repeats; i++) {
    settings.progress(`repeat ${i + 1} of ${repeats}`)
    rounds.push(await measureRound(peer, load, settings.quick ? 2_000 : 4_000, remarks))
  }
  return reportOf(rounds, remarks)
}

async function measureRound(peer: Peer, load: Load, windowMs: number, remarks: Remarks): Promise<Round> {
  const { port, path, gateway, node } = peer
  const openLoop = { rate: messagesPerSecond, warmMs: 300, windowMs, watch: {} }
  const baseline = await load.call('openLoop', openLoop)
  const baselineRss = quickRssKib(gateway)
  let stalled: LoadResult | null = null
  let nodePeak = 0
  const peak = await peakRssKib(gateway, async () => {
    nodePeak = await peakRssKib(node, async () => {
      await load.call('stall', { port, path, request: `flood ${floodBytes}` })
      stalled = await load.call('openLoop', openLoop)
    })
  })
  let received: StallResult | null = null
  const catchUpPeak = await peakRssKib(gateway, async () => {
    received = await load.call('unstall', { forMs: 5_000 })
  })
  assertAlive(peer)
  for (const result of [baseline, stalled!]) checkLoad('the good clients', result, remarks)
  return {
    baselineP50: baseline.latencyUs.p50,
    baselineP99: baseline.latencyUs.p99,
    stalledP50: stalled!.latencyUs.p50,
    stalledP99: stalled!.latencyUs.p99,
    baselineRssMib: baselineRss / 1024,
    peakRssMib: peak / 1024,
    nodePeakRssMib: nodePeak / 1024,
    catchUpPeakRssMib: catchUpPeak / 1024,
    received: received!,
  }
}

function reportOf(rounds: readonly Round[], remarks: Remarks): Report {
  const rows = rounds.map((round, i) => [
    String(i + 1),
    figure(round.baselineP50),
    figure(round.baselineP99),
    figure(round.stalledP50),
    figure(round.stalledP99),
    figure(round.baselineRssMib),
    figure(round.peakRssMib),
    figure(round.nodePeakRssMib),
    figure(round.catchUpPeakRssMib),
    figure(round.received.receivedBytes / 2 ** 20),
    round.received.closedByServer ? String(round.received.closeCode ?? 'no code') : 'no',
  ])
  const head = [
    'round',
    'p50 µs',
    'p99 µs',
    'stalled p50',
    'stalled p99',
    'gateway MiB',
    'peak MiB',
    'node peak MiB',
  ]
  const table: Table = {
    title: `${goodClients} good clients at ${messagesPerSecond} messages per second, one that does not read`,
    head: [...head, 'catch-up peak MiB', 'caught up MiB', 'closed'],
    rows,
  }
  const growth = Math.max(...rounds.map((round) => round.peakRssMib - round.baselineRssMib))
  const ratio = medianRatio(
    rounds.map((round) => round.stalledP99),
    rounds.map((round) => round.baselineP99),
  )
  return {
    tables: [table],
    goals: [
      atMost('growth of the gateway while the client does not read', growth, 64, 'MiB'),
      atMost(
        `p99 of the others (baseline ${figure(median(rounds.map((round) => round.baselineP99)))} µs)`,
        ratio,
        2,
        '×',
      ),
    ],
    remarks,
    data: rounds,
  }
}
