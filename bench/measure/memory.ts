import { readFileSync } from 'node:fs'

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

/** The highest resident size seen while `work` runs. */
export async function peakRssKib(pids: readonly number[], work: () => Promise<unknown>): Promise<number> {
  let peak = quickRssKib(pids)
  const timer = setInterval(() => {
    peak = Math.max(peak, quickRssKib(pids))
  }, 50)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return Math.max(peak, quickRssKib(pids))
}
