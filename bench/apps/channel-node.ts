import { parseArgs } from 'node:util'
import { createNode } from 'evenkeel/sdk'
import { topic } from '../load/broadcast.ts'
import { publishOnCommand } from './publish-on-command.ts'

// The fan-out application as an Evenkeel node: every session joins, and the node publishes.

const { values } = parseArgs({ options: { redis: { type: 'string', default: '' } } })

const node = createNode({ id: 'channel-1', redis: values.redis, drainOnSigterm: false })
node.serve({
  open(session) {
    session.join(topic)
  },
})

publishOnCommand((payloads) => {
  for (const payload of payloads) node.publish(topic, payload)
})
await node.start()
process.send?.({ ready: true })
