import { firstMessage, startNodeScript, waitUntilReady } from '../../processes.ts'
import { startGateway } from '../evenkeel.ts'
import { startRedis } from '../redis.ts'
import { Publisher } from './publisher.ts'
import type { FanoutSystem } from './system.ts'

/** The node is counted: it publishes as an application does, over its link, and a gateway takes it to Redis. */
export async function startEvenkeelCluster(): Promise<FanoutSystem> {
  const redis = await startRedis()
  const where = ['--redis', redis.url]
  const gateways = [await startGateway(where), await startGateway(where)]
  const script = new URL('../../apps/channel-node.ts', import.meta.url)
  const node = startNodeScript('channel-node', script, where)
  await firstMessage(node)
  for (const { child, admin } of gateways) await waitUntilReady(child, () => admin.lists(['channel-1']))
  return {
    name: 'evenkeel',
    ports: gateways.map(({ port }) => port),
    path: '/ws',
    dialect: 'plain',
    publisher: new Publisher(node),
    servers: [node.pid, ...gateways.flatMap(({ pids }) => pids)],
    redis: [redis.child.pid],
    children: [node, ...gateways.map(({ child }) => child), redis.child],
  }
}
