import { type ExecFileSyncOptions, execFileSync, spawnSync } from 'node:child_process'

/** The tests want a real `redis-server`. Vitest runs this once, before all of them. */
export default function installRedis(): void {
  if (isInstalled()) return
  const remedy = 'The tests need redis-server. Install it, for example with: apt-get install redis-server'
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) throw new Error(remedy)
  console.log('redis-server is missing: installing it with apt-get (package redis-server)')
  try {
    const options: ExecFileSyncOptions = {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }
    execFileSync('apt-get', ['update', '-qq'], options)
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'redis-server'], options)
  } catch (error) {
    throw new Error(remedy, { cause: error })
  }
  if (!isInstalled()) throw new Error(remedy)
}

function isInstalled(): boolean {
  return spawnSync('redis-server', ['--version']).status === 0
}
