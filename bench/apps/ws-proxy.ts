import type { AddressInfo } from 'node:net'
import { type RawData, WebSocket, WebSocketServer } from 'ws'

// What is often written first: a Node proxy that parses both sides and opens one upstream per client.

const upstreamPort = Number(process.argv[2])
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096, perMessageDeflate: false })

server.on('connection', (client) => {
  const upstream = new WebSocket(`ws://127.0.0.1:${upstreamPort}/`, { perMessageDeflate: false })
  let early: [RawData, boolean][] | null = []
  upstream.on('open', () => {
    for (const [data, binary] of early ?? []) upstream.send(data, { binary })
    early = null
  })
  client.on('message', (data, binary) => {
    if (early === null) upstream.send(data, { binary })
    else early.push([data, binary])
  })
  upstream.on('message', (data, binary) => client.send(data, { binary }))
  client.on('close', () => upstream.close())
  upstream.on('close', () => client.close())
  client.on('error', () => client.terminate())
  upstream.on('error', () => client.terminate())
})
server.on('listening', () => process.send?.({ port: (server.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit(0))
