import { closeOnSignal } from '../close-on-signal.ts'
import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'
import type { Logger } from '../logger.ts'
import { Supervisor } from './supervisor.ts'

/** Runs several gateways on one public port until a signal ends them and this process. Throws CommandFailed. */
export async function runWorkers(
  config: GatewayConfig,
  tokens: GatewayTokens,
  logger: Logger,
): Promise<void> {
  const supervisor = new Supervisor({ config, tokens, logger })
  closeOnSignal(() => supervisor.stop(), logger, { atOnce: () => supervisor.kill() })
  const workers = await supervisor.start()
  if (workers === null) return
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
