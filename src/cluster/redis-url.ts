import type { ConnectionOptions } from 'node:tls'
import { EvenkeelError } from '../protocol/errors.ts'

export interface RedisEndpoint {
  readonly host: string
  readonly port: number
}

/** Where Redis is and how to get in. */
export interface RedisAccess {
  /** One server, or some of the servers of one Redis Cluster. */
  readonly endpoints: readonly RedisEndpoint[]
  readonly username: string | null
  readonly password: string | null
  /** Database number; 0 in a Redis Cluster. */
  readonly db: number
  /** null: no TLS. */
  readonly tls: ConnectionOptions | null
}

const defaultPort = 6379
const remedy = 'write redis://[user:password@]host[:port][/db], or rediss: for TLS'

/**
 * Reads `redis:` and `rediss:` URLs: one, several separated by commas, or a list; several are servers of one Redis Cluster and
 * share user, password and scheme. Throws CONFIG_INVALID; no message repeats what may hold a password.
 */
export function parseRedisUrls(given: string | readonly string[], tls: ConnectionOptions = {}): RedisAccess {
  const texts = (typeof given === 'string' ? given.split(',') : given).map((text) => text.trim())
  const parsed = texts.map((text, index) => parseOne(text, texts.length === 1 ? 'redis' : `redis[${index}]`))
  const [first] = parsed
  if (first === undefined) throw invalid(`redis: ${remedy}`)
  for (const other of parsed) {
    const same =
      other.secure === first.secure &&
      other.username === first.username &&
      other.password === first.password &&
      other.db === first.db
    if (!same)
      throw invalid('redis: all URLs of one Redis Cluster must have the same scheme, user, password and db')
  }
  return {
    endpoints: parsed.map(({ host, port }) => ({ host, port })),
    username: first.username,
    password: first.password,
    db: first.db,
    tls: first.secure ? tls : null,
  }
}

/** Identifies a server; also how messages name it. */
export function endpointKey({ host, port }: RedisEndpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** The text without the password, in whatever form it may have got there. */
export function redact(text: string, { password }: RedisAccess): string {
  if (password === null) return text
  return text.replaceAll(password, '***').replaceAll(encodeURIComponent(password), '***')
}

function parseOne(text: string, place: string) {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'redis:' && url.protocol !== 'rediss:') || url.hostname === '')
    throw invalid(`${place} is not a Redis URL: ${remedy}`)
  if (url.search !== '' || url.hash !== '') throw invalid(`${place} has a query or a fragment: ${remedy}`)
  const db = /^\/?(\d{0,5})$/.exec(url.pathname)?.[1]
  if (db === undefined) throw invalid(`${place} has a path that is not a database number: ${remedy}`)
  return {
    host: decode(url.hostname, place).replace(/^\[|\]$/g, ''),
    port: url.port === '' ? defaultPort : Number(url.port),
    username: decode(url.username, place) || null,
    password: decode(url.password, place) || null,
    db: Number(db),
    secure: url.protocol === 'rediss:',
  }
}

function decode(text: string, place: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid(`${place} has a % that begins no escape; write %25 for one`)
  }
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('CONFIG_INVALID', message)
}
