import { assertListenAllowed } from '../../admin/access.ts'
import type { Operator } from '../../gateway/operator.ts'
import type { DemoOptions } from '../commands/demo.ts'
import { loadConfig } from '../config.ts'
import type { GatewayConfig } from '../config-schema.ts'
import { CommandFailed } from '../errors.ts'
import { createLogger } from '../logger.ts'
import { startGateway } from '../start-gateway.ts'

export interface DemoGateway {
  readonly operator: Operator
  readonly publicUrl: string
  readonly internalUrl: string
  readonly pool: string
  readonly nodeToken: string | null
  close(): Promise<void>
}

/** A gateway in this process. It warns on stderr unless a table is drawn. Throws ConfigError or CommandFailed. */
export async function startDemoGateway(options: DemoOptions): Promise<DemoGateway> {
  const { config, tokens } = await loadConfig({
    env: { ...demoEnvironment, ...process.env },
    flags: {
      '--port': { path: ['public', 'port'], value: options.port },
      '--internal-port': { path: ['internal', 'port'], value: options.internalPort },
      '--policy': { path: ['policy'], value: options.policy },
      '--rebalance-interval': { path: ['rebalance', 'intervalMs'], value: options.rebalanceIntervalMs },
    },
  })
  assertListenAllowed({ host: config.internal.host, ...tokens })
  const logger = createLogger(options.tty ? 'silent' : 'warn', process.stderr)
  const gateway = await startGateway(config, tokens, logger).catch((error: unknown) => {
    throw listenFailure(error, config) ?? error
  })
  return {
    operator: gateway.operator,
    publicUrl: urlOf(config.public.host, gateway.publicPort),
    internalUrl: urlOf(config.internal.host, gateway.internalPort),
    pool: config.pool,
    nodeToken: tokens.nodeToken,
    close() {
      // That the demo's nodes go down now is no news.
      logger.level = 'silent'
      return gateway.close()
    },
  }
}

/** A demo is for the one who looks at it: unless it is told otherwise, other machines cannot reach it. */
const demoEnvironment = process.env.EVENKEEL_CONFIG ? {} : { EVENKEEL_PUBLIC_HOST: '127.0.0.1' }

function listenFailure(error: unknown, config: GatewayConfig): CommandFailed | null {
  const { code, port } = error as NodeJS.ErrnoException & { port?: number }
  const reasons: Record<string, string> = {
    EADDRINUSE: 'another program listens there',
    EACCES: 'ports below 1024 need more rights',
  }
  const reason = code === undefined ? undefined : reasons[code]
  if (reason === undefined) return null
  const isPublic = port === config.public.port
  const flag = isPublic ? '--port' : '--internal-port'
  const other = isPublic ? '--internal-port' : '--port'
  return new CommandFailed(
    `Cannot listen on port ${port}: ${reason}. Choose another with ${flag} (and ${other} for the other listener).`,
    { cause: error },
  )
}

function urlOf(host: string, port: number): string {
  const everywhere: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
  const name = everywhere[host] ?? host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}
