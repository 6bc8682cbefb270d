import { EvenkeelError } from '../../protocol/errors.ts'
import { closeOnSignal } from '../close-on-signal.ts'
import { CommandFailed } from '../errors.ts'
import { listenFailure } from '../listen-failure.ts'
import { createLogger } from '../logger.ts'
import { newGatewayId, startGateway } from '../start-gateway.ts'
import { limitYoungGeneration } from '../young-generation.ts'
import type { Order, Report } from './messages.ts'

/** The program of one worker: a gateway that its parent starts and stops, and that leaves when its parent is gone. */

limitYoungGeneration()
// A terminal sends Ctrl-C to every process; the parent decides what it means.
process.on('SIGINT', () => {})

let leave: (reason: string) => void = () => process.exit(0)
process.on('message', (order: Order) => {
  if (order.type === 'start') void start(order)
  else leave('the parent stops')
})
process.on('disconnect', () => leave('the parent is gone'))

async function start({ config, tokens }: Extract<Order, { type: 'start' }>): Promise<void> {
  const gatewayId = config.gatewayId ?? newGatewayId()
  const logger = createLogger(config.log.level).child({ gateway: gatewayId })
  process.on('uncaughtExceptionMonitor', (error) => logger.fatal({ err: error }, 'the worker crashed'))
  const starting = startGateway({ ...config, gatewayId }, tokens, logger)
  const close = async () => {
    const gateway = await starting
    await gateway.leave()
    await gateway.close()
  }
  leave = closeOnSignal(close, logger, { signals: ['SIGTERM'] })
  try {
    const { publicPort, internalPort } = await starting
    logger.info(
      {
        public: { host: config.public.host, port: publicPort },
        internal: { host: config.internal.host, port: internalPort },
      },
      'worker ready',
    )
    report({ type: 'ready', gateway: gatewayId, publicPort, internalPort })
  } catch (error) {
    report({ type: 'failed', message: messageOf(listenFailure(error, config) ?? error) }, () =>
      process.exit(1),
    )
  }
}

function report(what: Report, sent: () => void = () => {}): void {
  if (process.connected) process.send!(what, undefined, undefined, sent)
  else sent()
}

function messageOf(error: unknown): string {
  if (error instanceof CommandFailed || error instanceof EvenkeelError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
