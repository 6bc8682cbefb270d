import { firstMessage, startNodeScript } from '../../processes.ts'
import { startRedis } from '../redis.ts'
import { Publisher } from './publisher.ts'
import type { FanoutSystem } from './system.ts'

export async function startSocketio(): Promise<FanoutSystem> {
  const redis = await startRedis()
  const script = new URL('../../apps/socketio-server.ts', import.meta.url)
  const servers = [1, 2].map((i) => startNodeScript(`socketio-${i}`, script, ['--redis', redis.url]))
  const listening = await Promise.all(servers.map((server) => firstMessage<{ port: number }>(server)))
  return {
    name: 'socket.io',
    ports: listening.map(({ port }) => port),
    path: '/socket.io/?EIO=4&transport=websocket',
    dialect: 'socket.io',
    publisher: new Publisher(servers[0]!),
    servers: servers.map(({ pid }) => pid),
    redis: [redis.child.pid],
    children: [...servers, redis.child],
  }
}
