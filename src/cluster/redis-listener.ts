import { Redis } from 'ioredis'
import { EvenkeelError } from '../protocol/errors.ts'
import { parseRedisUrls, redact } from './redis-url.ts'

export interface RedisListenerOptions {
  /** As for `joinRedis`; of several URLs the first is used: what is published in a Redis Cluster is heard at each of its servers. */
  url: string
  /** Redis glob patterns of channels. */
  patterns: readonly string[]
  /** A channel that one of the patterns is for: what says to all listeners where they are. */
  markChannel: string
  heard(channel: string, message: Buffer): void
  /** A listener has come; all listeners hear this at the same place among the messages. `mark`: grows. */
  marked(mark: string): void
  /** Messages may have been missed, until `marked`. */
  interrupted(): void
  warn(message: string): void
}

const connectMs = 5_000
const markScript = `local time = redis.call('TIME')
redis.call('PUBLISH', KEYS[1], time[1] .. string.format('%06d', time[2]))`

/** Hears what anybody publishes, as raw bytes, for as long as it takes: a lost connection is made again. Throws CONFIG_INVALID for a bad URL. */
export class RedisListener {
  private readonly options: RedisListenerOptions
  private readonly client: Redis
  private readonly publisher: Redis

  constructor(options: RedisListenerOptions) {
    this.options = options
    const access = parseRedisUrls(options.url)
    const { username, password, db, tls } = access
    const { host, port } = access.endpoints[0]!
    const make = () =>
      new Redis({
        host,
        port,
        db,
        lazyConnect: true,
        ...(username === null ? {} : { username }),
        ...(password === null ? {} : { password }),
        ...(tls === null ? {} : { tls }),
        autoResubscribe: false,
        enableOfflineQueue: false,
        retryStrategy: (attempt) => Math.min(2_000, 100 * attempt),
      })
    this.client = make()
    this.publisher = make()
    const failed = (error: Error) => options.warn(redact(`Redis of the emitters: ${error.message}`, access))
    for (const one of [this.client, this.publisher]) one.on('error', failed)
    this.client.on('close', () => options.interrupted())
    this.client.on('ready', () => void this.subscribe().catch(failed))
    this.client.on('pmessageBuffer', (_pattern: Buffer, channel: Buffer, message: Buffer) => {
      const name = channel.toString()
      if (name === options.markChannel) options.marked(message.toString())
      else options.heard(name, message)
    })
  }

  /** Resolves when Redis answers, or has not for 5 s: then it goes on trying. */
  async start(): Promise<void> {
    const first = new Promise<void>((resolve) => {
      this.client.once('subscribed', resolve)
      setTimeout(resolve, connectMs).unref()
    })
    for (const one of [this.client, this.publisher]) one.connect().catch(() => {})
    await first
  }

  close(): void {
    this.client.disconnect()
    this.publisher.disconnect()
  }

  private async subscribe(): Promise<void> {
    await this.client.psubscribe(...this.options.patterns)
    if (this.publisher.status !== 'ready')
      await new Promise((resolve) => this.publisher.once('ready', resolve))
    await this.publisher.eval(markScript, 1, this.options.markChannel)
    this.client.emit('subscribed')
  }
}

/** The text as a pattern for itself. */
export function globEscape(text: string): string {
  if (text.length > 255)
    throw new EvenkeelError('CONFIG_INVALID', 'a channel prefix has at most 255 characters')
  return text.replace(/[\\*?[\]^]/g, '\\$&')
}
