/**
 * A socket-server node to copy. It answers each text message M with
 *   {"node": "<id>", "count": <messages of this session so far>, "echo": "<M>"}
 * The count lives in `session.state`, so it goes on where it was when the session moves or its node dies.
 *
 *   npm run example:echo -- --id chat-1 --gateway ws://127.0.0.1:8081
 */
import { parseArgs } from 'node:util'
import { createNode } from 'evenkeel/sdk'

const { values } = parseArgs({
  options: {
    id: { type: 'string', default: `echo-${process.pid}` },
    pool: { type: 'string', default: 'default' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string', multiple: true, default: ['ws://127.0.0.1:8081'] },
    delivery: { type: 'string', default: 'stream' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  console.log(
    'Usage: npm run example:echo -- [--id ID] [--pool NAME] [--weight N] [--gateway URL]... [--delivery stream|atomic]',
  )
  process.exit(0)
}

const node = createNode({
  id: values.id,
  pool: values.pool,
  weight: Number(values.weight),
  gateways: values.gateway,
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
