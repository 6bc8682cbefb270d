import { writeFile } from 'node:fs/promises'
import type { Second } from '../../core/simulation/cluster.ts'
import {
  type Scenario,
  type Summary,
  scenarios,
  simulate,
  summarize,
} from '../../core/simulation/scenarios.ts'
import type { RebalanceMode, SimulateOptions } from '../commands/simulate.ts'
import { CommandFailed } from '../errors.ts'
import { type Column, createOutput } from '../output.ts'
import { chart, type Panel } from './chart.ts'

interface Variant {
  readonly name: string
  readonly policy: SimulateOptions['policy'][number]
  readonly rebalance: RebalanceMode
  readonly seconds: readonly Second[]
  readonly summary: Summary
}

/** Within this distance from its share a node counts as even; what the planners leave alone. */
const evenBelow = { sessions: 0.03, traffic: 0.15, off: 0.03 }

/** Runs every policy with every kind of rebalancing, one after the other, and prints and draws how they differ. Throws CommandFailed (file). */
export async function runSimulation(name: string, options: SimulateOptions): Promise<void> {
  const scenario = scenarios.find((one) => one.name === name)!
  const variants: Variant[] = []
  const total = options.policy.length * options.rebalance.length
  for (const policy of options.policy) {
    for (const rebalance of options.rebalance) {
      const label = rebalance === 'off' ? policy : `${policy} + ${rebalance}`
      const seconds = runOne(scenario, options, policy, rebalance, (second) =>
        showProgress(`${variants.length + 1} of ${total}, ${label}: ${second} of ${options.seconds} s`),
      )
      const by = rebalance === 'traffic' ? 'trafficImbalance' : 'imbalance'
      const summary = summarize(seconds, evenBelow[rebalance], by)
      variants.push({ name: label, policy, rebalance, seconds, summary })
    }
  }
  showProgress('')
  if (options.svg !== undefined) await draw(options.svg, scenario, options, variants)
  print(scenario, options, variants)
}

function runOne(
  scenario: Scenario,
  options: SimulateOptions,
  policy: Variant['policy'],
  rebalance: RebalanceMode,
  progress: (second: number) => void,
): Second[] {
  const { nodes, sessions, seconds, seed, interval, budget, slowStart } = options
  return simulate({
    scenario,
    size: { nodes, sessions },
    balancing: { policy, rebalance, intervalS: interval, budget, slowStartS: slowStart },
    seconds,
    seed,
    progress,
  })
}

function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}

const columns: Column<Variant>[] = [
  { title: 'policy', cell: ({ policy }) => policy },
  { title: 'rebalance', cell: ({ rebalance }) => rebalance },
  { title: 'worst', align: 'right', cell: ({ summary }) => percent(summary.worstImbalance) },
  { title: 'at the end', align: 'right', cell: ({ summary }) => percent(summary.finalImbalance) },
  { title: 'messages', align: 'right', cell: ({ summary }) => percent(summary.finalTrafficImbalance) },
  {
    title: 'even after',
    align: 'right',
    cell: ({ summary }) => (summary.evenAfterS === null ? 'never' : `${summary.evenAfterS} s`),
  },
  { title: 'moves', align: 'right', cell: ({ summary }) => summary.moves },
  { title: 'cut off', align: 'right', cell: ({ summary }) => summary.broken },
  { title: 'mean', align: 'right', cell: ({ summary }) => milliseconds(summary.finalLatencyMs) },
  { title: 'p99', align: 'right', cell: ({ summary }) => milliseconds(summary.finalLatencyP99Ms) },
]

function print(scenario: Scenario, options: SimulateOptions, variants: Variant[]): void {
  const out = createOutput()
  if (options.json === true) {
    const { nodes, sessions, seed } = options
    out.json({ scenario: scenario.name, nodes, sessions, seed, variants })
    return
  }
  out.line(
    `${scenario.name}: ${options.nodes.toLocaleString('en-US')} nodes, ${options.sessions.toLocaleString('en-US')} sessions; after 30 s ${scenario.summary}.`,
  )
  out.line('')
  out.table(variants, columns)
  out.line('')
  out.line(
    'worst (traffic: by messages), at the end: largest distance of a node from its fair share of sessions; messages: of the messages, at the end.',
  )
  out.line(
    'even after: seconds until that is within 3 % (traffic: messages within 15 %). cut off: clients whose node went away.',
  )
  out.line('mean, p99: milliseconds a message spends at its node at the end, by a queueing model (M/M/1).')
  if (options.svg !== undefined) out.line(`drawn: ${options.svg}`)
}

async function draw(
  file: string,
  scenario: Scenario,
  { nodes, sessions }: SimulateOptions,
  variants: readonly Variant[],
): Promise<void> {
  const panel = (
    title: string,
    unit: string,
    value: (second: Second) => number,
    logarithmic = false,
  ): Panel => ({
    title,
    unit,
    logarithmic,
    series: variants.map(({ name, seconds }) => ({ name, values: seconds.map(value) })),
  })
  const panels = [
    panel('distance of the worst node from its share of sessions', '%', ({ imbalance }) => 100 * imbalance),
    panel('the same of the messages', '%', ({ trafficImbalance }) => 100 * trafficImbalance),
    panel('moves of live sessions', 'per second', ({ moves }) => moves),
    panel('time at the node, slowest hundredth', 'ms', ({ latencyP99Ms }) => latencyP99Ms, true),
  ]
  const title = `${scenario.summary} (${nodes.toLocaleString('en-US')} nodes, ${sessions.toLocaleString('en-US')} sessions)`
  try {
    await writeFile(file, chart(title, panels))
  } catch (error) {
    throw new CommandFailed(`--svg: cannot write ${file}: ${(error as NodeJS.ErrnoException).code}`, {
      cause: error,
    })
  }
}

function percent(part: number): string {
  return `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`
}

function milliseconds(value: number): string {
  return value >= 10_000 ? '> 10 s' : `${value.toFixed(value < 10 ? 2 : 0)} ms`
}
