import { Argument, type Command, InvalidArgumentError, Option } from 'commander'
import { scenarios } from '../../core/simulation/scenarios.ts'
import { integerFrom } from '../arguments.ts'
import { type PolicyName, policyNames } from '../choices.ts'

export const rebalanceModes = ['off', 'sessions', 'traffic'] as const
export type RebalanceMode = (typeof rebalanceModes)[number]

export interface SimulateOptions {
  nodes: number
  sessions: number
  seconds: number
  policy: PolicyName[]
  rebalance: RebalanceMode[]
  interval: number
  budget: number
  slowStart: number
  seed: number
  svg?: string
  json?: boolean
}

export function addSimulate(program: Command): void {
  program
    .command('simulate')
    .description('what policies and rebalancing would do for a cluster, by the code that gateways run')
    .addArgument(
      new Argument('[scenario]', 'what happens after 30 s')
        .choices(scenarios.map(({ name }) => name))
        .default('join'),
    )
    .option('--nodes <n>', 'nodes at the start', integerFrom(1, 20_000), 100)
    .option('--sessions <n>', 'sessions at the start', integerFrom(1, 5_000_000), 100_000)
    .option('--seconds <n>', 'simulated time', integerFrom(60, 3_600), 120)
    .addOption(
      listOption('--policy <names>', 'policies to compare, with commas between', policyNames, [
        'weighted-least-connections',
      ]),
    )
    .addOption(
      listOption(
        '--rebalance <modes>',
        'off, sessions, traffic: what live sessions are moved for',
        rebalanceModes,
        ['off', 'sessions'],
      ),
    )
    .option('--interval <s>', 'seconds between rounds', integerFrom(1, 600), 10)
    .option('--budget <n>', 'most moves a second, of the whole cluster', integerFrom(1, 1_000_000), 2_000)
    .option('--slow-start <s>', 'seconds in which a new node warms up', integerFrom(0, 600), 0)
    .option('--seed <n>', 'the same seed gives the same run', integerFrom(0, 2 ** 31 - 1), 1)
    .option('--svg <file>', 'draw it')
    .option('--json', 'print every second as JSON')
    .action(async (scenario: string, options: SimulateOptions) => {
      const { runSimulation } = await import('../simulate/run.ts')
      await runSimulation(scenario, options)
    })
}

/** Several of a few words. */
function listOption<Word extends string>(
  flags: string,
  description: string,
  words: readonly Word[],
  byDefault: Word[],
): Option {
  return new Option(flags, `${description} (${words.join(', ')})`)
    .default(byDefault, byDefault.join(','))
    .argParser((text: string) => {
      const chosen = text.split(',').map((word) => word.trim())
      const unknown = chosen.find((word) => !words.includes(word as Word))
      if (unknown === undefined) return chosen
      throw new InvalidArgumentError(`"${unknown}" is none of ${words.join(', ')}.`)
    })
}
