import { parseArgs } from 'node:util'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'
import { echoEvents } from './echo-events.ts'

// The same Socket.IO server as an Evenkeel node.

const { values } = parseArgs({
  options: {
    id: { type: 'string', default: 'echo-1' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string', default: 'ws://127.0.0.1:8081' },
  },
})

const io = new Server({ serveClient: false })
const attached = attachSocketIO(io, {
  id: values.id,
  weight: Number(values.weight),
  gateways: [values.gateway],
  drainOnSigterm: false,
})
echoEvents(io)
await attached.ready
process.send?.({ ready: true })
process.on('disconnect', () => process.exit(0))
