import { assertListenAllowed } from '../admin/access.ts'
import { closeOnSignal } from './close-on-signal.ts'
import { type ConfigSources, loadConfig } from './config.ts'
import type { GatewayConfig } from './config-schema.ts'
import { CommandFailed } from './errors.ts'
import { createLogger } from './logger.ts'
import { limitYoungGeneration } from './young-generation.ts'

/** Runs a gateway until a signal ends the process. Throws ConfigError, EvenkeelError or CommandFailed. */
export async function runGateway(sources: ConfigSources): Promise<void> {
  limitYoungGeneration()
  const { config, tokens, warnings } = await loadConfig(sources)
  assertListenAllowed({ host: config.internal.host, ...tokens })
  const logger = createLogger(config.log.level)
  for (const warning of warnings) logger.warn(warning)
  process.on('uncaughtExceptionMonitor', (error) => logger.fatal({ err: error }, 'the gateway crashed'))

  const { startGateway } = await import('./start-gateway.ts')
  const gateway = await startGateway(config, tokens, logger).catch((error: unknown) => {
    throw listenFailure(error, config) ?? error
  })
  closeOnSignal(() => gateway.leave().then(() => gateway.close()), logger)
  logger.info(
    {
      gateway: gateway.operator.gatewayId,
      public: { host: config.public.host, port: gateway.publicPort },
      internal: { host: config.internal.host, port: gateway.internalPort },
    },
    'gateway ready',
  )
}

function listenFailure(error: unknown, config: GatewayConfig): CommandFailed | null {
  const { code, port, address } = error as NodeJS.ErrnoException & { port?: number; address?: string }
  const place = `${address ?? config.public.host}:${port ?? ''}`
  const remedies: Record<string, string> = {
    EADDRINUSE: 'another program listens there; stop it, or choose --port and --internal-port',
    EACCES: 'that port needs more rights; choose --port and --internal-port above 1023',
    EADDRNOTAVAIL: 'this machine has no such address; choose --host and --internal-host',
  }
  const remedy = code === undefined ? undefined : remedies[code]
  return remedy === undefined
    ? null
    : new CommandFailed(`Cannot listen on ${place}: ${remedy}.`, { cause: error })
}
