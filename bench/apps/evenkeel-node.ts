import { parseArgs } from 'node:util'
import { createNode, type Session } from 'evenkeel/sdk'

// The echo application as an Evenkeel node.

const { values } = parseArgs({
  options: {
    id: { type: 'string', default: 'echo-1' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string', default: 'ws://127.0.0.1:8081' },
    /** Keep about 200 B of state per session. */
    state: { type: 'boolean', default: false },
  },
})

const floodRequest = 'flood '
const floodChunk = new Uint8Array(16 * 1024).fill(0x61)

const node = createNode({
  id: values.id,
  pool: 'default',
  weight: Number(values.weight),
  gateways: [values.gateway],
  drainOnSigterm: false,
})

if (values.state) {
  node.serve({
    message(session, data, { seq }) {
      if (seq === 1) session.state = { user: session.id, notes: 'n'.repeat(150) }
      // It did not travel with the session: the client is closed, which the load generator reports.
      if (session.state === undefined) throw new Error(`session ${session.id} has lost its state`)
      session.send(data)
    },
  })
} else {
  node.serve({
    message(session, data) {
      if (typeof data === 'string' && data.startsWith(floodRequest))
        return flood(session, Number(data.slice(floodRequest.length)))
      session.send(data)
    },
  })
}

async function flood(session: Session, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes && session.open; sent += floodChunk.length)
    if (!session.send(floodChunk)) await session.drained()
}

await node.start()
process.send?.({ ready: true })
process.on('disconnect', () => process.exit(0))
