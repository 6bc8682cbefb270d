import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter'
import { Emitter } from '@socket.io/redis-emitter'
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { onTestFinished } from 'vitest'
import type { RedisServer } from './redis.ts'

export type AdapterKind = 'redis' | 'sharded' | 'streams'

/** A client of the Redis that ends with the test. */
export function redisClient({ port }: RedisServer): Redis {
  const client = new Redis(port, '127.0.0.1')
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

export function adapterOf(redis: RedisServer, kind: AdapterKind = 'redis') {
  if (kind === 'streams') return createStreamsAdapter(redisClient(redis), { readCount: 500 })
  const [pub, sub] = [redisClient(redis), redisClient(redis)]
  return kind === 'redis'
    ? createAdapter(pub, sub)
    : createShardedAdapter(pub, sub, { subscriptionMode: 'static' })
}

export function emitterOf(redis: RedisServer): Emitter {
  return new Emitter(redisClient(redis))
}

/** A Socket.IO server with clients of its own, that nobody has told of a gateway. */
export async function startPlainServer(
  redis: RedisServer,
  app: (io: Server, id: string) => void,
  { id, kind = 'redis' }: { id: string; kind?: AdapterKind },
): Promise<{ io: Server; httpUrl: string }> {
  const http = createServer()
  const io = new Server(http, { adapter: adapterOf(redis, kind) })
  app(io, id)
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => io.close())
  return { io, httpUrl: `http://127.0.0.1:${(http.address() as AddressInfo).port}` }
}
