import { Load } from '../load/handle.ts'
import { median } from '../measure/statistics.ts'
import { startPeers } from '../peers/start.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { column, interleave, ratioTo, type Samples, warmUp } from './interleaved.ts'
import { payloadBytes, type Report, type Scenario, type Settings } from './scenario.ts'

const connections = 200
const rate = 2_000
/** At this rate V8 compiles for so long, and a p99 shows it: 1 to 2 ms, of the Node proxy too, and 0.2 ms afterwards. */
const compiledMs = 10_000

export const latency: Scenario = {
  name: 'latency',
  summary: `${rate} evenly spaced messages per second over ${connections} connections`,
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peers = await startPeers(['evenkeel', 'nginx', 'ws-proxy', 'direct'], remarks)
  const load = await Load.start()
  await warmUp(load, peers, settings)
  for (const { name, port, path } of settings.quick ? [] : peers) {
    settings.progress(`warming up ${name} at this rate`)
    await load.call('open', { port, path, connections, payloadBytes })
    await load.call('openLoop', { rate, warmMs: 0, windowMs: compiledMs, watch: {} })
    await load.call('close', null)
  }
  const window = settings.quick ? { warmMs: 300, windowMs: 1_500 } : { warmMs: 500, windowMs: 4_000 }
  const samples = await interleave(load, {
    peers,
    repeats: settings.quick ? 1 : 3,
    connections,
    remarks,
    progress: settings.progress,
    measure: (watch) => load.call('openLoop', { rate, ...window, watch }),
  })
  const p50 = ratioTo('nginx', samples, 'evenkeel', 'p50')
  return {
    tables: [tableOf(samples)],
    goals: [atMost('p50 against nginx', p50, 1.2, '×')],
    remarks,
    data: Object.fromEntries(samples),
  }
}

function tableOf(samples: Samples): Table {
  const rows = [...samples.keys()].map((peer) => [
    peer,
    figure(median(column(samples, peer, 'p50'))),
    figure(median(column(samples, peer, 'p99'))),
    figure(ratioTo('nginx', samples, peer, 'p50')),
    figure(ratioTo('nginx', samples, peer, 'p99')),
    figure(median(column(samples, peer, 'gateway'))),
    figure(median(column(samples, peer, 'node'))),
  ])
  const head = ['', 'p50 µs', 'p99 µs', 'p50 × nginx', 'p99 × nginx', 'gateway CPU µs', 'node CPU µs']
  return { title: `${rate} messages per second, evenly spaced, ${connections} connections`, head, rows }
}
