import { ChaosPublisher } from './chaos-publisher.ts'
import { createRandom } from './random.ts'
import { machineTime } from './resumable-client.ts'
import type { ResumableCluster } from './resumable-cluster.ts'
import type { ResumableVerdict } from './resumable-crowd.ts'
import type { Readiness } from './resumable-gateway.ts'
import { atomicNodes, startCluster, startCrowd } from './resumable-scene.ts'

export interface RedisOutageOptions {
  seed: number
  /** Stopped: it answers nobody, and goes on with all its data. Killed: it comes back empty. */
  how: 'stopped' | 'killed'
  awayMs: number
  clients: number
}

export interface RedisOutageReport {
  clients: ResumableVerdict
  /** Of each gateway, while Redis is away and the gateway has seen it. */
  away: Readiness[]
  /** Times that every client was answered meanwhile. */
  rounds: number
  /** Messages of clients that came meanwhile. */
  newcomers: ResumableVerdict
  /** From Redis's return until nobody misses it and every channel has delivered a message that was published after it. */
  healedMs: number
}

const rooms = Array.from({ length: 6 }, (_, i) => `room:${i + 1}`)
const config = { channels: { history: [{ match: 'room:*', size: 1_000, ttlMs: 600_000 }] } }
/** Redis must have answered within a second, or its connection is closed. */
const noticedMs = 5_000

/** Redis is away for a while under load. Everything ends with the test. */
export async function runRedisOutage({
  seed,
  how,
  awayMs,
  clients,
}: RedisOutageOptions): Promise<RedisOutageReport> {
  const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(2), config })
  const crowd = await startCrowd(cluster, { clients, seed, rooms, roomsEach: 2 })
  const publisher = new ChaosPublisher(cluster, rooms, createRandom(seed))
  publisher.start(4)
  await crowd.roomsReach(await publisher.fresh())

  const { redis } = cluster
  const awayAt = performance.now()
  const lossesAt: number[] = []
  if (how === 'stopped') {
    redis.pause()
  } else {
    lossesAt.push(machineTime())
    await redis.kill()
  }
  const away = await everyoneNotices(cluster)
  const late = await startCrowd(cluster, { clients: 2, seed: seed + 1 })
  let rounds = 0
  for (; performance.now() - awayAt < awayMs; rounds++) await crowd.fence()

  if (how === 'stopped') redis.resume()
  else await redis.restart()
  const backAt = performance.now()
  await publisher.stop()
  await crowd.roomsEnd(publisher.published)
  await cluster.whole()
  const healedMs = performance.now() - backAt
  await crowd.settle()
  await late.settle()
  return {
    clients: await crowd.verdict({ published: publisher.published, lossesAt }),
    away,
    rounds,
    newcomers: await late.verdict(),
    healedMs,
  }
}

/** What they say once each of them gives a reason, or at last. */
async function everyoneNotices(cluster: ResumableCluster): Promise<Readiness[]> {
  for (const until = performance.now() + noticedMs; ; ) {
    const words = await Promise.all(cluster.gateways.map((gateway) => gateway.readiness()))
    if (words.every(({ reasons }) => reasons.length > 0) || performance.now() > until) return words
  }
}
