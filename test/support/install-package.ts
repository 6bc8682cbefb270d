import { type ExecFileSyncOptions, execFileSync, spawnSync } from 'node:child_process'

/**
 * Installs the Debian package of a program that the tests want, unless the program is there.
 * Throws, with the remedy, where that is not possible.
 */
export function installPackage(program: string, debianPackage: string, versionFlag = '--version'): void {
  if (isInstalled(program, versionFlag)) return
  const remedy = `The tests need ${program}. Install it, for example with: apt-get install ${debianPackage}`
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) throw new Error(remedy)
  console.log(`${program} is missing: installing it with apt-get (package ${debianPackage})`)
  try {
    const options: ExecFileSyncOptions = {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }
    execFileSync('apt-get', ['update', '-qq'], options)
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', debianPackage], options)
  } catch (error) {
    throw new Error(remedy, { cause: error })
  }
  if (!isInstalled(program, versionFlag)) throw new Error(remedy)
}

function isInstalled(program: string, versionFlag: string): boolean {
  return spawnSync(program, [versionFlag]).status === 0
}
