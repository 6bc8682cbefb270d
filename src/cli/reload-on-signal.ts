import type { RunningConfig } from './running-config.ts'

/** SIGHUP reads the configuration again. What comes of it is in the log. */
export function reloadOnSignal(running: Pick<RunningConfig, 'reload'>): void {
  process.on('SIGHUP', () => void running.reload({ dryRun: false }).catch(() => {}))
}
