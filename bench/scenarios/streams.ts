import { Load } from '../load/handle.ts'
import { median, medianRatio } from '../measure/statistics.ts'
import { assertAlive } from '../peers/peer.ts'
import type { StreamPeer, StreamPeerName } from '../peers/streams/peer.ts'
import { startStreamPeers } from '../peers/streams/start.ts'
import { atMost, type Goal } from '../report/goals.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { checkOpened, type Report, type Scenario, type Settings } from './scenario.ts'

const streams = 500
const intervalMs = 50

export const tokenStreams: Scenario = {
  name: 'streams',
  summary: `CPU time per token of ${streams} streams × ${1000 / intervalMs} tokens/s, and what the first token waits for`,
  run,
}

interface Sample {
  /** µs. */
  firstP50: number
  firstP99: number
  /** CPU µs of what stands in between. */
  perToken: number
  tokensPerSecond: number
  p50: number
  p99: number
}

type Samples = Map<StreamPeerName, Sample[]>

async function run({ quick, progress }: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peers = await startStreamPeers(remarks)
  const load = await Load.start()
  const repeats = quick ? 1 : 5
  const samples: Samples = new Map(peers.map(({ name }) => [name, []]))
  for (const peer of peers) {
    progress(`warming up ${peer.name}`)
    await measure(load, peer, { requests: 300, windowMs: quick ? 1_000 : 5_000 }, noRemarks())
  }
  for (let round = 0; round < repeats; round++) {
    for (let i = 0; i < peers.length; i++) {
      const peer = peers[(i + round) % peers.length]!
      progress(`${peer.name}, repeat ${round + 1} of ${repeats}`)
      const window = quick ? { requests: 200, windowMs: 1_500 } : { requests: 1_000, windowMs: 5_000 }
      samples.get(peer.name)!.push(await measure(load, peer, window, remarks))
    }
  }
  return { tables: [tableOf(samples)], goals: goalsOf(samples), remarks, data: Object.fromEntries(samples) }
}

async function measure(
  load: Load,
  peer: StreamPeer,
  { requests, windowMs }: { requests: number; windowMs: number },
  remarks: Remarks,
): Promise<Sample> {
  const { port, path } = peer
  const one = JSON.stringify({ model: 'bench', stream: true, tokens: 1 })
  const first = await load.call('firstTokens', { port, path, body: one, requests, pauseMs: 0 })
  if (first.failed > 0) remarks.failures.push(`${peer.name}: ${first.failed} requests failed: ${first.notes}`)
  const endless = JSON.stringify({ model: 'bench', stream: true, tokens: 0, intervalMs })
  const opened = await load.call('stream', { port, path, body: endless, connections: streams })
  checkOpened(peer.name, opened, remarks)
  const watch = { gateway: [...peer.gateway] }
  const result = await load.call('tokens', { warmMs: 1_000, windowMs, watch })
  await load.call('close', null)
  assertAlive(peer)
  for (const kind of ['closed', 'wrong'] as const)
    if (result[kind] > 0)
      remarks.failures.push(`${peer.name}: ${kind} ${result[kind]}: ${result.notes.join('; ')}`)
  return {
    firstP50: first.latencyUs.p50,
    firstP99: first.latencyUs.p99,
    perToken: (result.cpuNs.gateway ?? 0) / 1000 / result.tokens,
    tokensPerSecond: (result.tokens / windowMs) * 1000,
    p50: result.latencyUs.p50,
    p99: result.latencyUs.p99,
  }
}

function column(samples: Samples, peer: StreamPeerName, key: keyof Sample): number[] {
  return (samples.get(peer) ?? []).map((sample) => sample[key])
}

function tableOf(samples: Samples): Table {
  const rows = [...samples.keys()].map((peer) => [
    peer,
    ...(['perToken', 'tokensPerSecond', 'p50', 'p99', 'firstP50', 'firstP99'] as const).map((key) =>
      figure(median(column(samples, peer, key))),
    ),
  ])
  const head = ['', 'CPU µs/token', 'tokens/s', 'p50 µs', 'p99 µs', 'first p50 µs', 'first p99 µs']
  return { title: `${streams} streams × ${1000 / intervalMs} tokens/s`, head, rows }
}

function goalsOf(samples: Samples): Goal[] {
  const goals: Goal[] = []
  for (const peer of [...samples.keys()].filter((name) => name.startsWith('evenkeel'))) {
    const overhead = (key: 'firstP50' | 'firstP99') =>
      (median(column(samples, peer, key)) - median(column(samples, 'direct', key))) / 1000
    const ratio = medianRatio(column(samples, peer, 'perToken'), column(samples, 'nginx', 'perToken'))
    goals.push(atMost(`${peer}: first token, p50 over direct`, overhead('firstP50'), 1, 'ms'))
    goals.push(atMost(`${peer}: first token, p99 over direct`, overhead('firstP99'), 5, 'ms'))
    goals.push(atMost(`${peer}: CPU per token against nginx`, ratio, 1.5, '×'))
  }
  return goals
}
