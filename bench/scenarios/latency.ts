import { Load } from '../load/handle.ts'
import { median } from '../measure/statistics.ts'
import { startPeers } from '../peers/start.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { column, interleave, ratioTo, type Samples, warmUp } from './interleaved.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

const connections = 200
const rate = 2_000

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
