import type { DemoOptions } from '../commands/demo.ts'
import type { LoadedConfig } from '../config.ts'
import type { GatewayConfig } from '../config-schema.ts'
import { CommandFailed } from '../errors.ts'
import { createLogger } from '../logger.ts'
import { startGateway } from '../start-gateway.ts'
import type { DemoCluster } from './cluster.ts'
import { urlOf } from './config.ts'
import { createDemoPages, type DemoControl, notReady } from './pages.ts'

/** One gateway, in this process. It warns on stderr unless a table is drawn. Throws CommandFailed. */
export async function openLocalGateway(
  { tty }: DemoOptions,
  { config, tokens }: LoadedConfig,
): Promise<DemoCluster> {
  const logger = createLogger(tty ? 'silent' : 'warn', process.stderr)
  let control: DemoControl = () => Promise.reject(notReady())
  const pages = createDemoPages((action) => control(action))
  const gateway = await startGateway(config, tokens, logger, pages).catch((error: unknown) => {
    throw listenFailure(error, config) ?? error
  })
  const { operator } = gateway
  const publicUrl = urlOf(config.public.host, gateway.publicPort)
  const internalUrl = urlOf(config.internal.host, gateway.internalPort)
  return {
    redisUrl: null,
    pageUrl: publicUrl,
    pool: config.pool,
    nodeToken: tokens.nodeToken,
    nodeArguments: ['--gateway', internalUrl.replace('http', 'ws')],
    get redelivered() {
      return operator.counters.messagesRedelivered
    },
    gateways: () => [
      {
        id: operator.gatewayId,
        state: 'up',
        publicUrl,
        internalUrl,
        sessions: operator.nodes().reduce((sum, { sessionsHere }) => sum + sessionsHere, 0),
        pid: process.pid,
      },
    ],
    nodes: () => operator.nodes(),
    rebalance: async () => operator.rebalance(),
    onEvent: (listener) => void operator.onEvent((event) => listener(event, null)),
    onControl: (wanted) => {
      control = wanted
    },
    nodeOf: async (session) => operator.session(session).node,
    migrate: async (session, to) => void operator.migrate(session, to),
    killGatewayOf: async () => null,
    onUnexpectedEnd: () => {},
    close() {
      // That the demo's nodes go down now is no news.
      logger.level = 'silent'
      return gateway.close()
    },
  }
}

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
