import { closeOnSignal } from '../close-on-signal.ts'
import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'
import type { Logger } from '../logger.ts'
import { reloadOnSignal } from '../reload-on-signal.ts'
import { type ConfigOrigin, RunningConfig } from '../running-config.ts'
import { toFailure } from './failure.ts'
import { Supervisor } from './supervisor.ts'

/** Runs several gateways on one public port until a signal ends them and this process. Throws CommandFailed. */
export async function runWorkers(
  config: GatewayConfig,
  tokens: GatewayTokens,
  logger: Logger,
  origin: ConfigOrigin,
): Promise<void> {
  const supervisor = new Supervisor({
    config,
    tokens,
    logger,
    file: origin.file,
    handlers: {
      reload: (dryRun) =>
        running.reload({ dryRun }).then(
          (report) => ({ report }),
          (error: unknown) => ({ problem: toFailure(error) }),
        ),
      routesChanged(routes) {
        running.adoptRoutes(routes)
        supervisor.routesChanged(routes)
      },
    },
  })
  const running = new RunningConfig({
    gatewayId: 'parent',
    config,
    tokens,
    logger,
    origin,
    async apply(next, nextTokens) {
      await supervisor.apply(next, nextTokens)
      logger.level = next.log.level
    },
    noted: (note) => supervisor.note(note),
  })
  closeOnSignal(() => supervisor.stop(), logger, { atOnce: () => supervisor.kill() })
  const workers = await supervisor.start()
  if (workers === null) return
  reloadOnSignal(running)
  const { host } = config.internal
  logger.info(
    {
      public: { host: config.public.host, port: workers[0]!.publicPort },
      // Operators may ask any of them.
      internal: { host, port: workers[0]!.internalPort },
      workers: workers.map(({ gateway, pid, internalPort: port }) => ({
        gateway,
        pid,
        internal: { host, port },
      })),
    },
    'gateway ready',
  )
}
