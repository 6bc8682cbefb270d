import { parseArgs } from 'node:util'
import { createNode } from 'evenkeel/sdk'
import { tellStories } from './run-story.ts'

/** A node that makes stories. */
const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    gateway: { type: 'string' },
    redis: { type: 'string' },
    concurrency: { type: 'string', default: '400' },
  },
})
const { id = 'p', gateway, redis, concurrency } = values
const node = createNode({
  id,
  ...(redis === undefined ? { gateways: [gateway!] } : { redis }),
  logger: { info() {}, warn() {}, error: (message) => console.error(message) },
})
tellStories(node, Number(concurrency))
await node.start()
process.send?.('ready')
