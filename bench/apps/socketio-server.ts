import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { topic } from '../load/broadcast.ts'
import { publishOnCommand } from './publish-on-command.ts'

// The fan-out application as Socket.IO's documentation writes it for several servers, WebSocket only.

const { values } = parseArgs({ options: { redis: { type: 'string', default: '' } } })

const publishing = new Redis(values.redis)
const subscribing = publishing.duplicate()
const http = createServer()
const io = new Server(http, {
  transports: ['websocket'],
  serveClient: false,
  adapter: createAdapter(publishing, subscribing),
})
io.on('connection', (socket) => void socket.join(topic))

publishOnCommand((payloads) => {
  for (const payload of payloads) io.to(topic).emit('m', payload)
})
http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (http.address() as AddressInfo).port }),
)
