import type { ConnectionOptions } from 'node:tls'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits, type Limits } from '../protocol/limits.ts'
import { LeasedRegistry } from './leased-registry.ts'
import { redisLimiter } from './limiter.ts'
import type { ClusterMember } from './member.ts'
import { RecordedUpstreams } from './recorded-upstreams.ts'
import { RedisBus } from './redis-bus.ts'
import { RedisError } from './redis-error.ts'
import { RedisHistory } from './redis-history.ts'
import { RedisRegistryStore } from './redis-registry.ts'
import { RedisRuns } from './redis-runs.ts'
import { loadScript } from './redis-script.ts'
import { RedisServers } from './redis-servers.ts'
import { RedisSubscriptions } from './redis-subscriptions.ts'
import { RedisUpstreamRecords } from './redis-upstreams.ts'
import { parseRedisUrls } from './redis-url.ts'
import type { RunLimit } from './run-log.ts'

export interface RedisOptions {
  /**
   * `redis://[user:password@]host[:port][/db]`, or `rediss:` for TLS; of a Redis Cluster one server's URL, or several, as a list or
   * separated by commas. Redis 6.2 and later, Valkey; a Cluster of 7 and later uses sharded pub/sub.
   */
  url: string | readonly string[]
  /** What stands before every key and channel; default `evenkeel:`. Grant an ACL user `~evenkeel:* &evenkeel:*`. */
  prefix?: string
  /** For `rediss:`, such as `ca`. Default: the system's authorities. */
  tls?: ConnectionOptions
  /** Default: those of `defaultLimits`. */
  limits?: Partial<Pick<Limits, RedisLimit>>
  /** Junk in channels and entries, an id that another process took; never holds a secret. Default: nobody is told. */
  onProblem?: (problem: EvenkeelError) => void
  /** Milliseconds that only grow; default `performance.now`. */
  now?: () => number
  /** Jitter; default `Math.random`. */
  random?: () => number
}

type RedisLimit =
  | 'leaseMs'
  | 'leaseRefreshMs'
  | 'heartbeatMs'
  | 'messageBytes'
  | 'redisCommandMs'
  | 'redisInFlightBytes'
  | RunLimit

const limitScript = loadScript('limit')
/** A refusal is told this often. */
const refusalsMs = 60_000
const prefixPattern = /^[A-Za-z0-9._:{}-]{1,64}$/

/**
 * Joins the cluster that meets at a Redis. Resolves when Redis serves, or with the first failure: then it goes on trying, and
 * `status()` says what is wrong. Throws CONFIG_INVALID for a bad URL or prefix.
 */
export async function joinRedis(options: RedisOptions): Promise<ClusterMember> {
  const { prefix = 'evenkeel:', onProblem = () => {}, now = () => performance.now() } = options
  const access = parseRedisUrls(options.url, options.tls)
  if (!prefixPattern.test(prefix))
    throw new EvenkeelError('CONFIG_INVALID', 'redis prefix must be 1 to 64 of A-Z a-z 0-9 . _ : { } -')
  const limits = { ...defaultLimits, ...options.limits }
  const servers = new RedisServers({
    access,
    commandMs: limits.redisCommandMs,
    inFlightBytes: limits.redisInFlightBytes,
    heartbeatMs: limits.heartbeatMs,
    random: options.random ?? Math.random,
  })
  const subscriptions = new RedisSubscriptions({ servers, onGap: (channels) => bus.gap(channels) })
  const { messageBytes, leaseMs, leaseRefreshMs } = limits
  const channelPrefix = `${prefix}channel:`
  const bus = new RedisBus({ servers, subscriptions, channelPrefix, messageBytes, now, onProblem })
  const history = new RedisHistory({ servers, channelPrefix, messageBytes })
  const store = new RedisRegistryStore({ servers, subscriptions, prefix })
  const runs = new RedisRuns({ servers, subscriptions, prefix, limits })
  const registry = new LeasedRegistry({ store, leaseMs, leaseRefreshMs, now, onProblem })
  const upstreams = new RecordedUpstreams({
    records: new RedisUpstreamRecords({ servers, subscriptions, prefix }),
    refreshMs: leaseRefreshMs,
    onProblem,
  })
  let toldAt = Number.NEGATIVE_INFINITY
  // That Redis is away is said elsewhere; what it refuses would go unheard, for the gateway counts by itself then.
  const reportRefusal = (error: unknown) => {
    if (!(error instanceof RedisError) || error.reply === null || now() - toldAt < refusalsMs) return
    toldAt = now()
    onProblem(error)
  }
  await servers.settled()
  await store.settled()
  return {
    bus,
    registry,
    history,
    runs,
    upstreams,
    limiter: (name, rate) =>
      redisLimiter(name, rate, prefix, (key, points, seconds) =>
        servers.run(limitScript, [key], [points, seconds]).catch((error: unknown) => {
          reportRefusal(error)
          throw error
        }),
      ),
    async close() {
      await Promise.all([bus.close(), registry.close(), upstreams.close()])
      await Promise.all([subscriptions.close(), servers.close()])
    },
  }
}
