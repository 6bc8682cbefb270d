import { EvenkeelError } from '../../protocol/errors.ts'
import { closeOnSignal } from '../close-on-signal.ts'
import { CommandFailed } from '../errors.ts'
import { shapeHeap } from '../heap.ts'
import { listenFailure } from '../listen-failure.ts'
import { createLogger } from '../logger.ts'
import type { ParentConfig, RunningConfig } from '../running-config.ts'
import { newGatewayId, startGateway } from '../start-gateway.ts'
import { fromFailure, toFailure } from './failure.ts'
import type { Order, ReloadResult, Report } from './messages.ts'

/** The program of one worker: a gateway that its parent starts and stops, and that leaves when its parent is gone. */

shapeHeap()
// A terminal sends Ctrl-C to every process; the parent decides what it means.
process.on('SIGINT', () => {})
process.on('SIGHUP', () => {})

let leave: (reason: string) => void = () => process.exit(0)
const running = Promise.withResolvers<RunningConfig>()
const reloads = new Map<number, (result: ReloadResult) => void>()
process.on('message', (order: Order) => {
  if (order.type === 'start') void start(order)
  else if (order.type === 'apply') void apply(order)
  else if (order.type === 'note') void running.promise.then((configuration) => configuration.note(order.note))
  else if (order.type === 'reloaded') {
    reloads.get(order.id)?.(order.result)
    reloads.delete(order.id)
  } else leave('the parent stops')
})
process.on('disconnect', () => leave('the parent is gone'))

async function start({ config, tokens, file }: Extract<Order, { type: 'start' }>): Promise<void> {
  const gatewayId = config.gatewayId ?? newGatewayId()
  const logger = createLogger(config.log.level).child({ gateway: gatewayId })
  process.on('uncaughtExceptionMonitor', (error) => logger.fatal({ err: error }, 'the worker crashed'))
  const starting = startGateway({ ...config, gatewayId }, tokens, logger, null, parentConfig(file))
  const close = async () => {
    const gateway = await starting
    await gateway.leave()
    await gateway.close()
  }
  leave = closeOnSignal(close, logger, { signals: ['SIGTERM'] })
  try {
    const { publicPort, internalPort, configuration } = await starting
    running.resolve(configuration)
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

let lastReload = 0

function parentConfig(file: string | null): ParentConfig {
  return {
    file,
    async reload(dryRun) {
      const id = ++lastReload
      const result = await new Promise<ReloadResult>((resolve) => {
        reloads.set(id, resolve)
        report({ type: 'reload', id, dryRun })
      })
      if ('problem' in result) throw fromFailure(result.problem)
      return result.report
    },
    routesChanged: (routes) => report({ type: 'routes', routes }),
  }
}

async function apply({ id, config, tokens }: Extract<Order, { type: 'apply' }>): Promise<void> {
  const configuration = await running.promise
  const problem = await configuration.take(config, tokens).then(() => null, toFailure)
  report({ type: 'applied', id, problem })
}

function report(what: Report, sent: () => void = () => {}): void {
  if (process.connected) process.send!(what, undefined, undefined, sent)
  else sent()
}

function messageOf(error: unknown): string {
  if (error instanceof CommandFailed || error instanceof EvenkeelError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
