import { type ErrorCode, EvenkeelError } from '../protocol/errors.ts'
import { endpointKey, type RedisAccess, type RedisEndpoint, redact } from './redis-url.ts'

/**
 * What went wrong between us and one Redis server. It has no `cause`: the client's own errors carry the arguments of the command,
 * which for a login are user and password.
 */
export class RedisError extends EvenkeelError {
  /** The first word of Redis' answer, such as MOVED or NOSCRIPT; null when there was no answer. */
  readonly reply: string | null

  constructor(code: ErrorCode, message: string, reply: string | null) {
    super(code, message)
    this.reply = reply
  }
}

/** Answers that mean "not now" or "not with this login", which a caller cannot mend by another command. */
const notReadyReplies: ReadonlySet<string> = new Set([
  'LOADING',
  'READONLY',
  'MASTERDOWN',
  'CLUSTERDOWN',
  'TRYAGAIN',
  'MOVED',
  'ASK',
  'OOM',
  'BUSY',
  'MISCONF',
  'NOREPLICAS',
  'UNBLOCKED',
  'NOAUTH',
  'WRONGPASS',
  'NOPERM',
])

export function toRedisError(error: unknown, endpoint: RedisEndpoint, access: RedisAccess): RedisError {
  if (error instanceof RedisError) return error
  const { message, name, code } = error as NodeJS.ErrnoException
  const where = `Redis ${endpointKey(endpoint)}`
  // ioredis makes errors of this name from what the server answered.
  if (name === 'ReplyError' || name === 'SimpleError' || name === 'BlobError') {
    const reply = /^[A-Z]+/.exec(message)?.[0] ?? null
    const isNotReady = reply !== null && notReadyReplies.has(reply)
    return new RedisError(
      isNotReady ? 'NOT_READY' : 'INTERNAL',
      `${where}: ${redact(message, access)}`,
      reply,
    )
  }
  const text = redact(message || code || String(error), access)
  return new RedisError('NOT_READY', `${where} is away: ${text}`, null)
}
