import { readdirSync, readFileSync } from 'node:fs'

/**
 * Nanoseconds that all threads of these processes spent on a CPU. Compared with wall-clock figures this
 * hardly moves when something else runs on the machine.
 */
export function cpuNsOf(pids: readonly number[]): number {
  let total = 0
  for (const pid of pids) total += cpuNsOfProcess(pid)
  return total
}

function cpuNsOfProcess(pid: number): number {
  let total = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ', 1)[0])
    } catch (error) {
      // A thread may end between the listing and the reading.
      if (
        (error as NodeJS.ErrnoException).code !== 'ENOENT' &&
        (error as NodeJS.ErrnoException).code !== 'ESRCH'
      )
        throw error
    }
  }
  return total
}
