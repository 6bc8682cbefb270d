import { readFileSync, writeFileSync } from 'node:fs'

/** Resident KiB, summed from the page tables: exact, but it costs the process a moment. */
export function exactRssKib(pids: readonly number[]): number {
  return sum(pids, (pid) => field(`/proc/${pid}/smaps_rollup`, 'Rss'))
}

/** Resident KiB from the kernel's counters: cheap enough to sample while latency is measured. */
export function quickRssKib(pids: readonly number[]): number {
  return sum(pids, (pid) => field(`/proc/${pid}/status`, 'VmRSS'))
}

function sum(pids: readonly number[], read: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + read(pid), 0)
}

function field(file: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(file, 'latin1'))
  if (match === null) throw new Error(`${file} has no field ${name}`)
  return Number(match[1])
}

/** The highest resident size seen while `work` runs: the kernel keeps it, so that nobody has to look in between. */
export async function peakRssKib(pids: readonly number[], work: () => Promise<unknown>): Promise<number> {
  // proc(5): 5 sets VmHWM back to what is resident now.
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5')
  await work()
  return sum(pids, (pid) => field(`/proc/${pid}/status`, 'VmHWM'))
}
