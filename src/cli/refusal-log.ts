import type { Logger } from './logger.ts'

const everyMs = 10_000

/**
 * Logs connections that were cut, as warnings: one at once, and then at most one every 10 s that says how many there were, so that
 * whoever scans ports does not fill the log.
 */
export function refusalLog(logger: Logger, listener: string): (reason: string, address: string) => void {
  let quietUntil = Number.NEGATIVE_INFINITY
  let unsaid = 0
  return (reason, address) => {
    unsaid++
    const now = performance.now()
    if (now < quietUntil) return
    logger.warn({ listener, reason, address, connections: unsaid }, 'connection refused')
    quietUntil = now + everyMs
    unsaid = 0
  }
}
