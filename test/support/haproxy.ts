import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { freePort } from '../../src/cli/demo/free-port.ts'

/** A real haproxy on a free port of 127.0.0.1 that passes TCP on to one server. It ends with the test. */
export async function startHaproxy(targetPort: number, serverOptions: string): Promise<number> {
  const port = await freePort('127.0.0.1')
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-haproxy-'))
  const file = path.join(directory, 'haproxy.cfg')
  writeFileSync(file, config(port, targetPort, serverOptions))
  const child = spawn('haproxy', ['-db', '-f', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (data) => {
    log += data
  })
  const exited = once(child, 'exit')
  let over = false
  void exited.then(() => {
    over = true
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
    rmSync(directory, { recursive: true })
  })
  while (!(await accepts(port))) {
    if (over) throw new Error(`haproxy has ended:\n${log}`)
    await sleep(20)
  }
  return port
}

function config(port: number, targetPort: number, serverOptions: string): string {
  return `
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s

listen front
  bind 127.0.0.1:${port}
  server gateway 127.0.0.1:${targetPort} ${serverOptions}
`
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
