import { Load } from '../load/handle.ts'
import { startSystems } from '../peers/fanout/start.ts'
import type { FanoutSystem } from '../peers/fanout/system.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { backlogsIn, goalsOf, type Samples, tableOf } from './fanout-report.ts'
import {
  type Manner,
  measureSystem,
  publishesPerSecond,
  type SampleOptions,
  warmUp,
} from './fanout-sample.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

const subscriberCounts = [1_000, 5_000]
const manners: readonly Manner[] = [
  { title: 'one message at a time', burst: 1, deliveriesPerSecond: 20_000 },
  { title: 'bursts of 4', burst: 4, deliveriesPerSecond: 40_000 },
]

export const fanout: Scenario = {
  name: 'fanout',
  summary: 'CPU time per delivery of what is published to 1,000 and 5,000 subscribers',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const systems = await startSystems(remarks)
  const load = await Load.start()
  await warmUp(load, systems, manners, settings, remarks)
  const data: Record<string, unknown> = {}
  const report: Report = { tables: [], goals: [], remarks, data }
  for (const subscribers of subscriberCounts) {
    const samples = await interleaveSystems(load, systems, subscribers, settings, remarks)
    for (const [i, manner] of manners.entries()) {
      const clients = `${subscribers.toLocaleString('en-US')} subscribers`
      const title = `${clients}, ${manner.title}, ${publishesPerSecond(manner, subscribers)}/s`
      report.tables.push(tableOf(title, samples[i]!))
      report.goals.push(...goalsOf(`${clients}, ${manner.title}`, subscribers, manner.burst, samples[i]!))
      if (manner.burst === 1) remarks.notes.push(...backlogsIn(title, samples[i]!))
      data[title] = Object.fromEntries(samples[i]!)
    }
  }
  return report
}

/** Every system once, then every system again, each round beginning with another one. One result for each manner. */
async function interleaveSystems(
  load: Load,
  systems: readonly FanoutSystem[],
  subscribers: number,
  { quick, progress }: Settings,
  remarks: Remarks,
): Promise<Samples[]> {
  const repeats = quick ? 1 : 3
  const window = quick ? { warmMs: 300, windowMs: 1_000 } : { warmMs: 1_000, windowMs: 5_000 }
  const options: SampleOptions = { subscribers, manners, ...window, remarks }
  const results = manners.map((): Samples => new Map(systems.map(({ name }) => [name, []])))
  for (let round = 0; round < repeats; round++) {
    for (let i = 0; i < systems.length; i++) {
      const system = systems[(i + round) % systems.length]!
      progress(`${subscribers} subscribers: ${system.name}, repeat ${round + 1} of ${repeats}`)
      const samples = await measureSystem(load, system, options)
      for (const [at, sample] of samples.entries()) results[at]!.get(system.name)!.push(sample)
    }
  }
  return results
}
