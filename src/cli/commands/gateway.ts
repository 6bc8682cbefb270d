import { type Command, Option } from 'commander'
import { integerFrom, parseMilliseconds, parsePort } from '../arguments.ts'
import { loadKinds, logLevels, policyNames, workersMax } from '../choices.ts'

interface Flags {
  config?: string
  port?: number
  host?: string
  internalPort?: number
  internalHost?: string
  policy?: string
  hashKey?: { by: string; name: string }
  slowStart?: number
  rebalanceLoad?: string
  rebalanceInterval?: number
  logLevel?: string
  redis?: string
  workers?: number
}

export function addGateway(program: Command): void {
  program
    .command('gateway')
    .description('run a gateway')
    .option('--config <file>', 'configuration file, YAML or JSON (env: EVENKEEL_CONFIG)')
    .option('--port <port>', 'public port, for clients (default: 8080)', parsePort)
    .option('--host <address>', 'public address (default: 0.0.0.0)')
    .option('--internal-port <port>', 'internal port, for nodes and operators (default: 8081)', parsePort)
    .option('--internal-host <address>', 'internal address (default: 127.0.0.1)')
    .option('--redis <url>', 'the Redis that the cluster shares (default: one gateway by itself)')
    .option(
      '--workers <n>',
      'processes that share the public port; more than one need --redis (default: 1)',
      integerFrom(1, workersMax),
    )
    .addOption(
      new Option(
        '--policy <name>',
        'how a new session finds its node (default: weighted-least-connections)',
      ).choices(policyNames),
    )
    .option(
      '--hash-key <place:name>',
      'what the policy key-hash hashes, such as header:x-user, cookie:user or query:user',
      parseHashKey,
    )
    .option('--slow-start <ms>', 'until a new node gets its full share (default: 0)', parseMilliseconds)
    .addOption(
      new Option('--rebalance-load <kind>', 'what sessions are moved for (default: sessions)').choices(
        loadKinds,
      ),
    )
    .option(
      '--rebalance-interval <ms>',
      '0: only on events and on request (default: 10000)',
      parseMilliseconds,
    )
    .addOption(new Option('--log-level <level>', '(default: info)').choices(logLevels))
    .action(async (flags: Flags) => {
      const { runGateway } = await import('../run-gateway.ts')
      await runGateway({
        ...(flags.config === undefined ? {} : { file: flags.config }),
        env: process.env,
        flags: {
          '--port': { path: ['public', 'port'], value: flags.port },
          '--host': { path: ['public', 'host'], value: flags.host },
          '--internal-port': { path: ['internal', 'port'], value: flags.internalPort },
          '--internal-host': { path: ['internal', 'host'], value: flags.internalHost },
          '--redis': { path: ['redis'], value: flags.redis },
          '--workers': { path: ['workers'], value: flags.workers },
          '--policy': { path: ['policy'], value: flags.policy },
          '--hash-key': { path: ['hashKey'], value: flags.hashKey },
          '--slow-start': { path: ['slowStartMs'], value: flags.slowStart },
          '--rebalance-load': { path: ['rebalance', 'load'], value: flags.rebalanceLoad },
          '--rebalance-interval': { path: ['rebalance', 'intervalMs'], value: flags.rebalanceInterval },
          '--log-level': { path: ['log', 'level'], value: flags.logLevel },
        },
      })
    })
}

/** Place and name are judged with the rest of the configuration. */
function parseHashKey(text: string): { by: string; name: string } {
  const at = text.indexOf(':')
  return { by: text.slice(0, Math.max(at, 0)), name: text.slice(at + 1) }
}
