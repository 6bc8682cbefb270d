import { Load } from '../load/handle.ts'
import { median } from '../measure/statistics.ts'
import { startPeers } from '../peers/start.ts'
import { atMost, type Goal } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { column, interleave, ratioTo, type Sample, type Samples, warmUp } from './interleaved.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

interface Shape {
  connections: number
  outstanding: number
}

const shapes: Shape[] = [
  { connections: 200, outstanding: 1 },
  { connections: 1_000, outstanding: 1 },
  { connections: 1_000, outstanding: 16 },
]

export const roundtrip: Scenario = {
  name: 'roundtrip',
  summary: 'CPU time per echoed message, as many as go through',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peers = await startPeers(['evenkeel', 'nginx', 'ws-proxy', 'direct'], remarks)
  const load = await Load.start()
  const report: Report = { tables: [], goals: [], remarks, data: {} }
  const data: Record<string, unknown> = {}
  await warmUp(load, peers, settings)
  const window = settings.quick ? { warmMs: 300, windowMs: 1_000 } : { warmMs: 1_000, windowMs: 2_000 }
  for (const shape of shapes) {
    const title = `${shape.connections} connections × ${shape.outstanding} outstanding`
    const samples = await interleave(load, {
      peers,
      repeats: settings.quick ? 1 : 3,
      connections: shape.connections,
      remarks,
      progress: (text) => settings.progress(`${title}: ${text}`),
      measure: (watch) => load.call('closedLoop', { outstanding: shape.outstanding, ...window, watch }),
    })
    report.tables.push(tableOf(title, samples))
    report.goals.push(...goalsOf(title, shape, samples))
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
      figure(ratioTo('ws-proxy', samples, peer, 'total')),
      ...(['messagesPerSecond', 'p50', 'p99', 'generator'] as const).map(cell),
    ]
  })
  const head = [
    '',
    'gateway µs',
    'node µs',
    'sum µs',
    '× nginx',
    '× ws-proxy',
    'msg/s',
    'p50 µs',
    'p99 µs',
    'load µs',
  ]
  return { title: `${title}, CPU per round trip`, head, rows }
}

function goalsOf(title: string, { outstanding }: Shape, samples: Samples): Goal[] {
  if (outstanding > 1) {
    const ratio = ratioTo('ws-proxy', samples, 'evenkeel', 'total')
    return [atMost(`${title}: gateway + node against ws-proxy + application`, ratio, 0.3, '×')]
  }
  const total = ratioTo('nginx', samples, 'evenkeel', 'total')
  const gateway = ratioTo('nginx', samples, 'evenkeel', 'gateway')
  return [
    atMost(`${title}: gateway + node against nginx + application`, total, 0.6, '×'),
    atMost(`${title}: gateway alone against the nginx worker`, gateway, 0.9, '×'),
  ]
}
