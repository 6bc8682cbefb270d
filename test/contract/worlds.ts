import { onTestFinished } from 'vitest'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import type { EvenkeelError } from '../../src/protocol/errors.ts'
import type { Limits } from '../../src/protocol/limits.ts'
import { joinRedisInTest, randomPrefix, testLimits } from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisClusterServers, RedisServer } from '../support/redis.ts'

export type TestMember = ClusterMember & { problems: Recorder<EvenkeelError> }

/** One cluster, empty at first. */
export interface TestCluster {
  join(): Promise<TestMember>
  /** Stores a registry entry unchecked. */
  plant(key: string, json: string): Promise<void>
  /** Writes upstreams or settings as any Redis client may, without telling anybody; null deletes. */
  plantUpstreams(
    hash: 'entries' | 'settings',
    pairs: readonly (readonly [key: string, json: string | null])[],
  ): Promise<void>
  /** Publishes as any Redis client may; absent where there is no Redis. */
  foreignPublish?(channel: string, payload: Buffer | string): Promise<void>
}

/** A kind of cluster that keeps the contract. */
export interface World {
  readonly name: string
  start(): Promise<void>
  stop(): Promise<void>
  createCluster(limits?: Partial<Limits>): TestCluster
}

const memory: World = {
  name: 'memory',
  async start() {},
  async stop() {},
  createCluster(limits) {
    const problems = new Recorder<EvenkeelError>()
    const cluster = new MemoryCluster({ limits: { ...testLimits, ...limits }, onProblem: problems.add })
    return {
      async join() {
        const member = cluster.join()
        onTestFinished(() => member.close())
        return { ...member, problems }
      },
      async plant(key, json) {
        cluster.plant(key, json)
      },
      async plantUpstreams(hash, pairs) {
        for (const [key, json] of pairs) cluster.plantUpstream(hash, key, json)
      },
    }
  },
}

function redisWorld(
  name: string,
  startServers: () => Promise<{
    url: string
    ownerOf(key: string): Promise<RedisServer>
    stop(): Promise<void>
  }>,
  publish: string,
): World {
  let servers: Awaited<ReturnType<typeof startServers>>
  return {
    name,
    async start() {
      servers = await startServers()
    },
    stop: async () => await servers?.stop(),
    createCluster(limits = {}) {
      const prefix = randomPrefix()
      return {
        join: () => joinRedisInTest(servers.url, { prefix, limits }),
        async plant(key, json) {
          const tag = `${prefix}{registry}:`
          const owner = await servers.ownerOf(tag)
          await owner.command('HSET', `${tag}entries`, key, json)
          await owner.command('ZADD', `${tag}leases`, Date.now() + testLimits.leaseMs, key)
          await owner.command('SET', `${tag}revision`, Date.now() * 1_000)
          await owner.command(publish, `${tag}changes`, 'changed')
        },
        async plantUpstreams(hash, pairs) {
          const raw = `${prefix}{upstreams}:${hash}`
          const owner = await servers.ownerOf(raw)
          const written = pairs.flatMap(([key, json]) => (json === null ? [] : [key, json]))
          const deleted = pairs.flatMap(([key, json]) => (json === null ? [key] : []))
          if (written.length > 0) await owner.command('HSET', raw, ...written)
          if (deleted.length > 0) await owner.command('HDEL', raw, ...deleted)
        },
        async foreignPublish(channel, payload) {
          const raw = `${prefix}channel:${channel}`
          await (await servers.ownerOf(raw)).command(publish, raw, payload)
        },
      }
    },
  }
}

const standalone = redisWorld(
  'Redis',
  async () => {
    const server = await RedisServer.start()
    return { url: server.url, ownerOf: async () => server, stop: () => server.stop() }
  },
  'PUBLISH',
)

const redisCluster = redisWorld('Redis Cluster', () => RedisClusterServers.start(), 'SPUBLISH')

export const worlds: readonly World[] = [memory, standalone, redisCluster]

export async function joinMany(cluster: TestCluster, count: number): Promise<TestMember[]> {
  return await Promise.all(Array.from({ length: count }, () => cluster.join()))
}
