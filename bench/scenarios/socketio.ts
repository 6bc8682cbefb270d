import { Load } from '../load/handle.ts'
import type { Dialect } from '../load/wrappings.ts'
import { median } from '../measure/statistics.ts'
import { startPeers } from '../peers/start.ts'
import { atMost, type Goal } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { column, interleave, ratioTo, type Sample, type Samples, warmUp } from './interleaved.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

interface Shape {
  what: string
  dialect: Dialect
  connections: number
  /** Per second, evenly spaced; absent: as many as go through. */
  rate?: number
}

const shapes: Shape[] = [
  { what: 'event with acknowledgement', dialect: 'socket.io ack', connections: 200 },
  { what: 'event and event back', dialect: 'socket.io', connections: 200 },
  { what: 'event with acknowledgement', dialect: 'socket.io ack', connections: 1_000 },
  // Nothing can be put together then, so it shows what each hop costs by itself.
  { what: 'events with acknowledgement, 2,000/s', dialect: 'socket.io ack', connections: 200, rate: 2_000 },
]

export const socketio: Scenario = {
  name: 'socketio',
  summary: 'CPU time per Socket.IO round trip, beside nginx with the same server',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peers = await startPeers(['evenkeel', 'nginx', 'direct'], remarks, 'socket.io')
  const load = await Load.start()
  const report: Report = { tables: [], goals: [], remarks, data: {} }
  const data: Record<string, unknown> = {}
  for (const { dialect } of shapes.slice(0, 2)) await warmUp(load, peers, settings, dialect)
  const window = settings.quick ? { warmMs: 300, windowMs: 1_000 } : { warmMs: 1_000, windowMs: 2_000 }
  for (const { what, dialect, connections, rate } of shapes) {
    const title = `${connections} connections, ${what}`
    const samples = await interleave(load, {
      peers,
      repeats: settings.quick ? 1 : 3,
      connections,
      dialect,
      remarks,
      progress: (text) => settings.progress(`${title}: ${text}`),
      measure: (watch) =>
        rate === undefined
          ? load.call('closedLoop', { outstanding: 1, ...window, watch })
          : load.call('openLoop', { rate, ...window, watch }),
    })
    report.tables.push(tableOf(title, samples))
    if (rate === undefined) report.goals.push(goalOf(title, samples))
    data[title] = Object.fromEntries(samples)
  }
  report.data = data
  return report
}

function tableOf(title: string, samples: Samples): Table {
  const rows = [...samples.keys()].map((peer) => {
    const cell = (key: keyof Sample) => figure(median(column(samples, peer, key)))
    return [
      peer,
      ...(['gateway', 'node', 'total'] as const).map(cell),
      figure(ratioTo('nginx', samples, peer, 'total')),
      ...(['messagesPerSecond', 'p50', 'p99', 'generator'] as const).map(cell),
    ]
  })
  const head = ['', 'gateway µs', 'node µs', 'sum µs', '× nginx', 'msg/s', 'p50 µs', 'p99 µs', 'load µs']
  return { title: `${title}, CPU per round trip`, head, rows }
}

function goalOf(title: string, samples: Samples): Goal {
  const ratio = ratioTo('nginx', samples, 'evenkeel', 'total')
  return atMost(`${title}: gateway + node against nginx + the same server`, ratio, 1, '×')
}
