import { assertListenAllowed } from '../admin/access.ts'
import { closeOnSignal } from './close-on-signal.ts'
import { type ConfigSources, type LoadedConfig, loadConfig } from './config.ts'
import { shapeHeap } from './heap.ts'
import { listenFailure } from './listen-failure.ts'
import { createLogger } from './logger.ts'
import { reloadOnSignal } from './reload-on-signal.ts'
import { configOrigin, fileOf } from './running-config.ts'
import type { Extra } from './start-gateway.ts'

/** Runs a gateway, or several workers (without `extra`), until a signal ends the process. Throws ConfigError, EvenkeelError or CommandFailed. */
export async function runGateway(sources: ConfigSources, extra?: Extra): Promise<void> {
  shapeHeap()
  const { config, tokens, warnings } = await loadAllowed(sources)
  const origin = configOrigin(fileOf(sources), () => loadAllowed(sources))
  const logger = createLogger(config.log.level)
  for (const warning of warnings) logger.warn(warning)
  process.on('uncaughtExceptionMonitor', (error) => logger.fatal({ err: error }, 'the gateway crashed'))
  if (config.workers > 1) {
    const { runWorkers } = await import('./workers/run-workers.ts')
    await runWorkers(config, tokens, logger, origin)
    return
  }

  const { startGateway } = await import('./start-gateway.ts')
  const gateway = await startGateway(config, tokens, logger, extra, origin).catch((error: unknown) => {
    throw listenFailure(error, config) ?? error
  })
  reloadOnSignal(gateway.configuration)
  closeOnSignal(() => gateway.leave().then(() => gateway.close()), logger)
  logger.info(
    {
      gateway: gateway.operator.gatewayId,
      public: { host: config.public.host, port: gateway.publicPort },
      internal: { host: config.internal.host, port: gateway.internalPort },
      ...(gateway.tcpPorts.length > 0 ? { tcp: gateway.tcpPorts } : {}),
    },
    'gateway ready',
  )
}

/** What could not be started with is not reloaded either. Throws ConfigError, EvenkeelError. */
async function loadAllowed(sources: ConfigSources): Promise<LoadedConfig> {
  const loaded = await loadConfig(sources)
  assertListenAllowed({ host: loaded.config.internal.host, ...loaded.tokens })
  return loaded
}
