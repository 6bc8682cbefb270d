import type { Socket as NetStream } from 'node:net'
import { Command, Redis } from 'ioredis'
import { backoffMs } from '../core/backoff.ts'
import type { Readiness } from './bus.ts'
import { RedisError, toRedisError } from './redis-error.ts'
import { endpointKey, type RedisAccess, type RedisEndpoint } from './redis-url.ts'

export interface RedisLinkOptions {
  endpoint: RedisEndpoint
  access: RedisAccess
  /** The connection's name in CLIENT LIST. */
  name: string
  /** To connect, and for an answer to each command. */
  commandMs: number
  /** What may wait for an answer; commands beyond it fail at once. */
  inFlightBytes: number
  /** A silent connection is asked for a sign of life this often. */
  heartbeatMs: number
  random: () => number
  onUp(hello: ServerHello): void
  /** The connection is gone, or an attempt failed; another one follows. */
  onDown(): void
  onMessage?(channel: string, payload: Buffer): void
  /** Redis refused or ended a subscription: the channel's slot is at another server. `subscribed` says which are left. */
  onMoved?(): void
}

/** How the strings of an answer are given: as text, or as buffers. */
export type AnswerKind = 'text' | 'bytes'

export interface ServerHello {
  readonly version: string
  readonly isCluster: boolean
}

const retryBaseMs = 50
const retryCapMs = 1_000
/** What a command weighs besides its arguments: its entry in the queue, its time-out, its promise. */
const commandOverheadBytes = 256
const settled = Promise.resolve()
/** A closing connection may send what it has for this long. */
const disconnectMs = 100

/**
 * One connection to one Redis server, kept up with back-off and jitter. Nothing is queued while it is down, and
 * nothing is sent twice. ioredis brings the protocol; each attempt has a client of its own, so that no queue, no
 * subscription and no retry of an earlier connection can outlive it.
 */
export class RedisLink {
  readonly endpoint: RedisEndpoint
  private readonly options: RedisLinkOptions
  private client: Redis | null = null
  private up = false
  private closed = false
  private failure = 'still connecting'
  private attempt = 0
  private timer: NodeJS.Timeout | null = null
  private waiting: (() => void)[] = []
  private inFlight = 0
  /** Counts connections, to tell an answer of this one from an answer of an earlier one. */
  generation = 0

  constructor(options: RedisLinkOptions) {
    this.options = options
    this.endpoint = options.endpoint
    this.dial()
  }

  get ready(): boolean {
    return this.up
  }

  status(): Readiness {
    return this.up ? { ready: true, reason: null } : { ready: false, reason: this.describe() }
  }

  /** The sharded channels that this connection has, as far as Redis confirmed them and did not end them. */
  subscribed(): ReadonlySet<string> {
    const subscriptions = this.client?.condition?.subscriber
    return new Set(subscriptions ? subscriptions.channels('ssubscribe') : [])
  }

  /** Resolves when the attempt under way has succeeded or failed; at once when there is none. */
  settled(): Promise<void> {
    if (this.up || this.closed || this.client === null) return Promise.resolve()
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  /** Commands leave in the order of the calls. Rejects with RedisError: NOT_READY, or INTERNAL for a refused command. */
  async call(
    command: string,
    args: readonly (string | number | Buffer)[],
    answer: AnswerKind = 'text',
  ): Promise<unknown> {
    const { client } = this
    if (!this.up || client === null) throw new RedisError('NOT_READY', this.describe(), null)
    const bytes = commandOverheadBytes + args.reduce((sum: number, arg) => sum + sizeOf(arg), 0)
    if (this.inFlight > 0 && this.inFlight + bytes > this.options.inFlightBytes) {
      const text = `${this.inFlight} bytes wait for its answer, allowed are ${this.options.inFlightBytes}`
      throw new RedisError('NOT_READY', `Redis ${endpointKey(this.endpoint)} is too slow: ${text}`, null)
    }
    this.inFlight += bytes
    writeTogether(client.stream)
    const sent = new Command(command, [...args], { replyEncoding: answer === 'bytes' ? null : 'utf8' })
    try {
      return await client.sendCommand(sent)
    } catch (error) {
      const failure = toRedisError(error, this.endpoint, this.options.access)
      // Without an answer the connection is of no use, and closing it drops what it still holds. A server that became a
      // replica stays one; its name may lead to the new master.
      if (failure.reply === null || failure.reply === 'READONLY') this.lost(client, failure)
      throw failure
    } finally {
      this.inFlight -= bytes
      empty(sent)
    }
  }

  async close(): Promise<void> {
    this.closed = true
    if (this.timer !== null) clearTimeout(this.timer)
    const { client } = this
    this.client = null
    this.up = false
    this.failure = 'closed'
    this.wake()
    if (client === null || client.status === 'end') return
    const ended = new Promise((resolve) => client.once('end', resolve))
    client.disconnect()
    await ended
  }

  private describe(): string {
    const { failure } = this
    return failure.startsWith('Redis ') ? failure : `Redis ${endpointKey(this.endpoint)} is away: ${failure}`
  }

  private dial(): void {
    const { endpoint, access, name, commandMs } = this.options
    const client = new Redis({
      host: endpoint.host,
      port: endpoint.port,
      ...(access.username === null ? {} : { username: access.username }),
      ...(access.password === null ? {} : { password: access.password }),
      ...(access.tls === null ? {} : { tls: access.tls }),
      db: access.db,
      connectionName: name,
      connectTimeout: commandMs,
      commandTimeout: commandMs,
      disconnectTimeout: disconnectMs,
      lazyConnect: true,
      disableClientInfo: true,
      // INFO may be forbidden; `greet` finds out whether the server can serve.
      enableReadyCheck: false,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      autoResubscribe: false,
    })
    this.client = client
    let cause: unknown = null
    client.on('error', (error) => {
      cause ??= error
    })
    client.on('end', () => this.lost(client, cause ?? new Error('connection closed')))
    const { onMessage, onMoved } = this.options
    if (onMessage !== undefined) {
      const receive = (channel: Buffer, payload: Buffer) => {
        // A connection that was given up may still be heard beside its successor.
        if (this.client === client) onMessage(channel.toString(), payload)
      }
      client.on('messageBuffer', receive)
      client.on('smessageBuffer', receive)
    }
    if (onMoved !== undefined) client.on('moved', () => this.client === client && onMoved())
    client
      .connect()
      .then(() => greet(client))
      .then(
        (hello) => this.greeted(client, hello),
        (error) => this.lost(client, cause ?? error),
      )
  }

  private greeted(client: Redis, hello: ServerHello): void {
    if (this.client !== client) return
    this.up = true
    this.attempt = 0
    this.generation++
    this.heartbeat(client)
    this.wake()
    this.options.onUp(hello)
  }

  private heartbeat(client: Redis): void {
    this.timer = setTimeout(() => {
      client.ping().then(
        () => this.client === client && this.heartbeat(client),
        (error) => this.lost(client, error),
      )
    }, this.options.heartbeatMs)
  }

  private lost(client: Redis, error: unknown): void {
    if (this.client !== client || this.closed) return
    this.client = null
    this.up = false
    this.failure = toRedisError(error, this.endpoint, this.options.access).message
    // Ends what still waits for an answer, too.
    client.disconnect()
    if (this.timer !== null) clearTimeout(this.timer)
    const retryMs = backoffMs(this.attempt++, this.options.random, retryBaseMs, retryCapMs)
    this.timer = setTimeout(() => this.dial(), retryMs)
    this.wake()
    this.options.onDown()
  }

  private wake(): void {
    const { waiting } = this
    this.waiting = []
    for (const resolve of waiting) resolve()
  }
}

/**
 * Commands of one turn leave in one write. Apart, Redis would answer and publish the first one while the others are on their way, and
 * every gateway would deliver a burst in two writes to each client.
 */
function writeTogether(stream: NetStream): void {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/**
 * Lets go of what was sent and answered. Each command assigns a function to a property of its own, and V8 makes such functions in the
 * old generation: until all of the heap is collected it would keep alive, and move there too, every answer ever read.
 */
function empty(command: Command): void {
  command.args = []
  command.promise = settled
}

/** Throws when the server cannot serve: it loads its data, or is a replica. */
async function greet(client: Redis): Promise<ServerHello> {
  const fields = (await client.call('HELLO')) as string[]
  const field = (name: string) => String(fields[fields.indexOf(name) + 1])
  const isCluster = field('mode') === 'cluster'
  if (!isCluster && field('role') !== 'master') throw new Error('it is a replica; give the URL of the master')
  await client.ping()
  return { version: field('version'), isCluster }
}

function sizeOf(arg: string | number | Buffer): number {
  return typeof arg === 'number' ? 8 : arg.length
}
