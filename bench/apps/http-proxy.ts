import { Agent, createServer, request as outgoing } from 'node:http'
import type { AddressInfo } from 'node:net'

// What is often written first: a Node proxy that pipes request and answer.

const upstreamPort = Number(process.argv[2])
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
const server = createServer({ noDelay: true }, (request, response) => {
  const { method, url: path, headers } = request
  const upstream = outgoing(
    { host: '127.0.0.1', port: upstreamPort, method, path, headers, agent },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    },
  )
  upstream.on('error', () => response.destroy())
  response.on('close', () => upstream.destroy())
  request.pipe(upstream)
})
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
)
process.on('disconnect', () => process.exit(0))
