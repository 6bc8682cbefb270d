import { once } from 'node:events'
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
  onTestFinished(async () => {
    // What adapters have asked for when they close is answered first, unless the server is killed before.
    const ended = client.status === 'ready' ? once(client, 'end') : null
    client.disconnect()
    await ended
  })
  return client
}

/** `lagMs`: what the server hears comes this much later, as at a machine that is far away or busy. */
export function adapterOf(redis: RedisServer, kind: AdapterKind = 'redis', lagMs = 0) {
  if (kind === 'streams') return createStreamsAdapter(redisClient(redis), { readCount: 500 })
  const [pub, sub] = [redisClient(redis), redisClient(redis)]
  return kind === 'redis'
    ? createAdapter(pub, lagMs === 0 ? sub : lagging(sub, lagMs))
    : createShardedAdapter(pub, sub, { subscriptionMode: 'static' })
}

function lagging(client: Redis, lagMs: number): Redis {
  return new Proxy(client, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown
      if (name === 'on') {
        return (event: string, listener: (...args: unknown[]) => void) =>
          target.on(event, (...args: unknown[]) => {
            if (event.endsWith('essageBuffer')) setTimeout(listener, lagMs, ...args)
            else listener(...args)
          })
      }
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
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
