import type { Logger } from './logger.ts'

/**
 * SIGTERM or SIGINT closes gracefully and exits 0, or 1 when closing failed.
 * A second signal exits 1 at once.
 */
export function closeOnSignal(
  close: () => Promise<void>,
  logger: Pick<Logger, 'info' | 'error' | 'warn'>,
): void {
  let closing = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (closing) {
      logger.warn({ signal }, 'second signal: leaving at once')
      process.exit(1)
    }
    closing = true
    logger.info({ signal }, 'closing')
    close().then(
      () => {
        logger.info('closed')
        process.exit(0)
      },
      (error: unknown) => {
        logger.error({ err: error }, 'closing failed')
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
}
