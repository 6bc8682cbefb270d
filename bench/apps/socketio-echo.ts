import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server } from 'socket.io'
import { echoEvents } from './echo-events.ts'

// The echo application as an ordinary Socket.IO server.

const http = createServer()
echoEvents(new Server(http, { serveClient: false }))
http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (http.address() as AddressInfo).port }),
)
process.on('disconnect', () => process.exit(0))
