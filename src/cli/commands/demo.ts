import { type Command, Option } from 'commander'
import { integerFrom, parseMilliseconds, parsePort, parseWeights } from '../arguments.ts'
import { type PolicyName, policyNames } from '../choices.ts'

/** What `evenkeel demo` hands to its implementation. */
export interface DemoOptions {
  /** One weight per node. */
  weights: number[]
  /** Simulated clients. */
  clients: number
  port: number
  internalPort: number
  policy: PolicyName
  /** 0: only on events and on request. */
  rebalanceIntervalMs: number
  /** Two gateways that meet at a Redis of their own, in place of one by itself. */
  redis: boolean
  /** Draw a live view. Default: when stdout is a terminal. */
  tty: boolean
}

interface Flags {
  nodes?: number
  weights?: number[]
  clients: number
  port: number
  internalPort: number
  policy: DemoOptions['policy']
  rebalanceInterval: number
  redis?: boolean
  tty: boolean
}

const defaultWeights = [1, 1, 2]

export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('run gateways, nodes and clients in one terminal and watch them')
    .option('--nodes <n>', 'nodes to start (default: 3)', integerFrom(1, 64))
    .option('--weights <list>', 'their weights (default: 1,1,2)', parseWeights)
    .option('--clients <n>', 'simulated clients', integerFrom(0, 100_000), 200)
    .option('--port <port>', 'public port', parsePort, 8080)
    .option('--internal-port <port>', 'internal port', parsePort, 8081)
    .addOption(
      new Option('--policy <name>', 'how a new session finds its node')
        .choices(policyNames)
        .default('weighted-least-connections'),
    )
    .option('--rebalance-interval <ms>', '0: only on events and on request', parseMilliseconds, 10_000)
    .option('--redis', 'run two gateways and the redis-server at which they meet')
    .option('--no-tty', 'print lines instead of a live view')
    .action(async (flags: Flags, command: Command) => {
      const weights = weightsOf(flags)
      if (weights === null) {
        command.error(`error: --nodes ${flags.nodes} needs as many weights, got ${flags.weights?.join(',')}`)
      }
      const { runDemo } = await import('../demo/run.ts')
      await runDemo({
        weights,
        clients: flags.clients,
        port: flags.port,
        internalPort: flags.internalPort,
        policy: flags.policy,
        rebalanceIntervalMs: flags.rebalanceInterval,
        redis: flags.redis === true,
        tty: flags.tty && process.stdout.isTTY === true,
      } satisfies DemoOptions)
    })
}

/** null when the number of nodes and their weights contradict each other. */
function weightsOf({ nodes, weights }: Flags): number[] | null {
  if (weights !== undefined) return nodes === undefined || nodes === weights.length ? weights : null
  const count = nodes ?? defaultWeights.length
  return Array.from({ length: count }, (_, index) => defaultWeights[index] ?? 1)
}
