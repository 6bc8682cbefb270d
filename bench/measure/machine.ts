import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { cpus, loadavg, release, totalmem, type } from 'node:os'

export interface MachineFacts {
  node: string
  v8: string
  ws: string
  nginx: string | null
  cores: number
  cpu: string
  kernel: string
  memoryMib: number
  loadAverage: number
}

export function machineFacts(): MachineFacts {
  return {
    node: process.version,
    v8: process.versions.v8,
    ws: packageVersion('ws'),
    nginx: nginxVersion(),
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    kernel: `${type()} ${release()}`,
    memoryMib: Math.round(totalmem() / 2 ** 20),
    loadAverage: loadavg()[0] ?? 0,
  }
}

export function packageVersion(name: string): string {
  return (createRequire(import.meta.url)(`${name}/package.json`) as { version: string }).version
}

/** null when there is no nginx on this machine. */
export function nginxProgram(): string | null {
  // Debian keeps it where ordinary users' PATH does not look.
  return (
    ['nginx', '/usr/sbin/nginx'].find((program) => spawnSync(program, ['-v']).error === undefined) ?? null
  )
}

function nginxVersion(): string | null {
  const program = nginxProgram()
  if (program === null) return null
  return /nginx\/(\S+)/.exec(spawnSync(program, ['-v'], { encoding: 'utf8' }).stderr)?.[1] ?? 'unknown'
}
