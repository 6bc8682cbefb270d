import { spawnSync } from 'node:child_process'
import { installPackages } from '../../install.ts'
import { nginxProgram, packageVersion } from '../../measure/machine.ts'
import { messageOf, type Remarks } from '../../report/remarks.ts'
import { startEvenkeelCluster } from './evenkeel.ts'
import { nchanModule, startNchan } from './nchan.ts'
import { startSocketio } from './socketio.ts'
import type { FanoutSystem } from './system.ts'

/** A system that cannot start is left out, with the reason: the others are still worth measuring. */
export async function startSystems(remarks: Remarks): Promise<FanoutSystem[]> {
  if (!hasRedis()) installPackages(['redis-server'])
  const starters = [
    ['evenkeel', startEvenkeelCluster],
    ['socket.io', startSocketio],
    ['nchan', startNchanIfInstalled],
  ] as const
  const systems: FanoutSystem[] = []
  for (const [name, start] of starters) {
    try {
      systems.push(await start())
    } catch (error) {
      const text = `${name} could not be started: ${messageOf(error)}`
      if (error instanceof NotInstalled) remarks.notes.push(text)
      else remarks.failures.push(text)
    }
  }
  remarks.notes.push(versions())
  return systems
}

class NotInstalled extends Error {
  constructor(...packages: string[]) {
    super(`it is not installed; to have it: apt-get install ${packages.join(' ')}`)
  }
}

function versions(): string {
  const socketio = `socket.io ${packageVersion('socket.io')}`
  const adapter = `@socket.io/redis-adapter ${packageVersion('@socket.io/redis-adapter')}`
  const nchan = firstMatch(/^Version: (\S+)/m, 'dpkg-query', ['-s', 'libnginx-mod-nchan'])
  const redis = firstMatch(/ v=(\S+)/, 'redis-server', ['--version'])
  return `${socketio} with ${adapter}, nchan ${nchan}, Redis ${redis}`
}

function firstMatch(pattern: RegExp, program: string, args: readonly string[]): string {
  const { stdout } = spawnSync(program, args, { encoding: 'utf8' })
  return pattern.exec(stdout ?? '')?.[1] ?? '–'
}

function startNchanIfInstalled(): Promise<FanoutSystem> {
  const packages = ['nginx', 'libnginx-mod-nchan']
  if (nchanModule() === null) installPackages(packages)
  const [program, module] = [nginxProgram(), nchanModule()]
  if (program === null || module === null) throw new NotInstalled(...packages)
  return startNchan(program, module)
}

function hasRedis(): boolean {
  return spawnSync('redis-server', ['--version']).status === 0
}
