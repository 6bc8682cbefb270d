import { median } from '../measure/statistics.ts'
import type { SystemName } from '../peers/fanout/system.ts'
import { atMost, type Goal } from '../report/goals.ts'
import { figure, type Table } from '../report/table.ts'
import type { Sample } from './fanout-sample.ts'

/** One entry for each repeat; null for one in which not every delivery was right. */
export type Samples = Map<SystemName, (Sample | null)[]>

const backlogFrom = 1.03

export function tableOf(title: string, samples: Samples): Table {
  const rows = [...samples].map(([name, repeats]) => {
    const valid = repeats.filter((sample) => sample !== null)
    const cell = (key: keyof Sample) => figure(median(valid.map((sample) => sample[key])))
    return [
      name,
      ...(['servers', 'redis', 'total'] as const).map(cell),
      figure(ratioTo('socket.io', samples, name)),
      figure(ratioTo('nchan', samples, name)),
      ...(['p50', 'p99', 'deliveriesPerRead', 'generator'] as const).map(cell),
    ]
  })
  const cpu = ['servers µs', 'Redis µs', 'sum µs', '× socket.io', '× nchan']
  const head = ['', ...cpu, 'p50 ms', 'p99 ms', 'per read', 'load µs']
  return { title: `${title}, CPU per delivery`, head, rows }
}

export function goalsOf(title: string, subscribers: number, burst: number, samples: Samples): Goal[] {
  const toNchan = ratioTo('nchan', samples, 'evenkeel')
  if (burst > 1) return [atMost(`${title}: against nchan`, toNchan, 0.5, '×')]
  const goals = [atMost(`${title}: against nchan`, toNchan, 1.2, '×')]
  if (subscribers > 1_000) return goals
  const toSocketio = ratioTo('socket.io', samples, 'evenkeel')
  return [atMost(`${title}: against socket.io`, toSocketio, 0.65, '×'), ...goals]
}

/** Single messages that clients read together had waited: then the machine was too busy for this rate. */
export function backlogsIn(title: string, samples: Samples): string[] {
  return [...samples].flatMap(([name, repeats]) => {
    const late = repeats.filter((sample) => sample !== null && sample.deliveriesPerRead > backlogFrom).length
    if (late === 0) return []
    return [
      `${title}: clients of ${name} fell behind in ${late} of ${repeats.length} repeats; it looks too cheap`,
    ]
  })
}

/** Over the repeats that both have. */
function ratioTo(reference: SystemName, samples: Samples, name: SystemName): number {
  const references = samples.get(reference) ?? []
  const ratios = (samples.get(name) ?? []).flatMap((sample, round) => {
    const beside = references[round] ?? null
    return sample === null || beside === null ? [] : [sample.total / beside.total]
  })
  return median(ratios)
}
