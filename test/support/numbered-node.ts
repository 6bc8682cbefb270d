/** A node process that runs the numbered application. Its parent shuts and opens the gates and hears of each step. */
import { parseArgs } from 'node:util'
import { createNode, type Delivery } from 'evenkeel/sdk'
import { Gate, numberedHandlers, type Point } from './numbered.ts'

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    gateway: { type: 'string' },
    delivery: { type: 'string', default: 'stream' },
  },
})

const gate = new Gate()
const node = createNode({
  id: values.id!,
  gateways: [values.gateway!],
  delivery: values.delivery as Delivery,
  drainOnSigterm: false,
})
node.serve(numberedHandlers(values.id!, gate, (step) => process.send?.(step)))
process.on('message', ({ block, release }: { block?: Point; release?: Point }) => {
  if (block !== undefined) gate.block(block)
  if (release !== undefined) gate.release(release)
  process.send?.({ obeyed: true })
})
process.on('disconnect', () => process.exit(0))
await node.start()
process.send?.({ obeyed: true })
