import type { Logger } from './logger.ts'

export interface CloseOptions {
  /** Default: SIGTERM and SIGINT. */
  signals?: readonly NodeJS.Signals[]
  /** Called before a second signal ends the process. */
  atOnce?: () => void
}

/**
 * The first signal closes gracefully and exits 0, or 1 when closing failed. A second signal exits 1 at once.
 * Returns a function that closes without a signal, for the reason that it is given.
 */
export function closeOnSignal(
  close: () => Promise<void>,
  logger: Pick<Logger, 'info' | 'error' | 'warn'>,
  { signals = ['SIGTERM', 'SIGINT'], atOnce }: CloseOptions = {},
): (reason: string) => void {
  let closing = false
  let signalled = false
  const begin = (why: { signal: NodeJS.Signals } | { reason: string }) => {
    if (closing) return
    closing = true
    logger.info(why, 'closing')
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
  const onSignal = (signal: NodeJS.Signals) => {
    if (signalled) {
      logger.warn({ signal }, 'second signal: leaving at once')
      atOnce?.()
      process.exit(1)
    }
    signalled = true
    begin({ signal })
  }
  for (const signal of signals) process.on(signal, onSignal)
  return (reason) => begin({ reason })
}
