/**
 * A socket-server node to copy. It answers each text message M with
 *   {"node": "<id>", "count": <messages of this session so far>, "echo": "<M>"}
 * The count lives in `session.state`, so it goes on where it was when the session moves or its node dies.
 *
 *   npm run example:echo -- --id chat-1 --gateway ws://127.0.0.1:8081
 *
 * With --redis, or EVENKEEL_REDIS, it finds every gateway of that cluster by itself.
 */
import { parseArgs } from 'node:util'
import { createNode } from 'evenkeel/sdk'

const { values } = parseArgs({
  options: {
    id: { type: 'string', default: `echo-${process.pid}` },
    pool: { type: 'string', default: 'default' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string', multiple: true },
    redis: { type: 'string' },
    delivery: { type: 'string', default: 'stream' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  console.log(
    'Usage: npm run example:echo -- [--id ID] [--pool NAME] [--weight N] [--gateway URL]... [--redis URL] [--delivery stream|atomic]',
  )
  process.exit(0)
}

// The Redis where the cluster meets, unless gateways are named.
const redis = values.redis ?? (values.gateway === undefined ? process.env.EVENKEEL_REDIS : undefined)

const node = createNode({
  id: values.id,
  pool: values.pool,
  weight: Number(values.weight),
  ...(redis ? { redis } : { gateways: values.gateway ?? ['ws://127.0.0.1:8081'] }),
  delivery: values.delivery as 'stream' | 'atomic',
})

node.serve<{ count: number }>({
  message(session, data) {
    const count = (session.state?.count ?? 0) + 1
    session.state = { count }
    session.send(JSON.stringify({ node: node.id, count, echo: data.toString() }))
  },
})

await node.start()
console.log(`node ${node.id} serves pool ${values.pool} with weight ${values.weight}`)
