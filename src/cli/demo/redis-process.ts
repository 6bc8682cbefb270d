import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { freePort } from './free-port.ts'

/** The module of the process that runs redis-server: ends it when the demo ends, however that happens. */

export type RedisMessage = { url: string } | { failure: string }

const host = '127.0.0.1'
const attempts = 5
const logKept = 2_000

process.on('SIGTERM', () => process.exit(0))
process.send?.(await startRedis())

async function startRedis(): Promise<RedisMessage> {
  let log = ''
  // Between finding a free port and taking it, another program may have taken it.
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = await freePort(host)
    const failure = await runRedis(port)
    if (failure === null) return { url: `redis://${host}:${port}` }
    if (!failure.includes('in use')) return { failure }
    log = failure
  }
  return { failure: log }
}

/** Resolves with null once it serves, else with what it said. */
async function runRedis(port: number): Promise<string | null> {
  const args = ['--port', String(port), '--bind', host, '--save', '', '--appendonly', 'no', '--dir', tmpdir()]
  const redis = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = () => void redis.kill('SIGKILL')
  process.on('exit', kill)
  const { promise, resolve } = Promise.withResolvers<string | null>()
  let serves = false
  let log = ''
  const read = (text: string) => {
    log = (log + text).slice(-logKept)
    serves ||= log.includes('Ready to accept connections')
    if (serves) resolve(null)
  }
  redis.stdout.setEncoding('utf8').on('data', read)
  redis.stderr.setEncoding('utf8').on('data', read)
  redis.on('error', (error: NodeJS.ErrnoException) => {
    process.off('exit', kill)
    resolve(error.code === 'ENOENT' ? 'the program is missing' : error.message)
  })
  redis.on('close', (code, signal) => {
    process.off('exit', kill)
    if (serves) process.exit(1)
    resolve(`it ended with ${signal ?? `exit code ${code}`}: ${log.trim().split('\n').at(-1)}`)
  })
  return promise
}
