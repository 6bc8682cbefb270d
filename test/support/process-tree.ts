import { readdirSync, readFileSync } from 'node:fs'

/** All processes below this one, where /proc tells. */
export function descendants(pid: number): number[] {
  if (process.platform !== 'linux') return []
  const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && statOf(name)?.parent === pid)
  return children.map(Number).flatMap((child) => [child, ...descendants(child)])
}

export function isRunning(pid: number): boolean {
  // A process that has ended but was not waited for can still be signalled.
  if (process.platform === 'linux') return (statOf(pid)?.state ?? 'Z') !== 'Z'
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** The name of the program, where /proc tells. */
export function programOf(pid: number): string | null {
  return statOf(pid)?.program ?? null
}

function statOf(pid: string | number): { program: string; state: string; parent: number } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name stands in parentheses and may hold anything.
    const nameEnd = text.lastIndexOf(')')
    const [state, parent] = text.slice(nameEnd + 2).split(' ')
    return { program: text.slice(text.indexOf('(') + 1, nameEnd), state: state!, parent: Number(parent) }
  } catch {
    return null
  }
}
