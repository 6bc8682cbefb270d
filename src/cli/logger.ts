import { pino } from 'pino'
import type { LogLevel } from './choices.ts'

export type Logger = ReturnType<typeof pino>

const secretKeys = [
  'authorization',
  'cookie',
  'set-cookie',
  'token',
  'nodeToken',
  'adminToken',
  'persistenceSecret',
  'sessionToken',
  'authKeys',
  'access_token',
]

/** JSON lines on stdout. Credentials are cut out wherever a log object usually carries them. */
export function createLogger(level: LogLevel, destination?: { write(line: string): void }): Logger {
  const key = (name: string) => `["${name}"]`
  const paths = secretKeys.flatMap((name) => [
    key(name),
    `*${key(name)}`,
    `headers${key(name)}`,
    `*.headers${key(name)}`,
  ])
  const options = { level, base: { pid: process.pid }, redact: { paths, censor: '[redacted]' } }
  return destination === undefined ? pino(options) : pino(options, destination)
}
