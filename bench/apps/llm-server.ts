import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tokenEvent } from './token-event.ts'

// An LLM server as its clients see it: tokens as events of the chat completions dialect, one write each, evenly spaced.

interface Order {
  /** 0: as many as the client waits for. */
  tokens: number
  intervalMs: number
  /** At once, before the others. */
  head: number
  /** Beside the number of each token. */
  padBytes: number
}

const server = createServer({ noDelay: true }, (request, response) => {
  answer(request, response).catch(() => response.destroy())
})

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const order = JSON.parse(Buffer.concat(chunks).toString()) as Partial<Order>
  const { tokens = 1, intervalMs = 50, head = 1, padBytes = 0 } = order
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  stream(response, { tokens, intervalMs, head, padBytes })
}

function stream(response: ServerResponse, { tokens, intervalMs, head, padBytes }: Order): void {
  let sent = 0
  const next = () => {
    response.write(tokenEvent(sent++, padBytes))
    if (tokens === 0 || sent < tokens) return
    clearInterval(timer)
    response.end('data: [DONE]\n\n')
  }
  const timer = setInterval(next, intervalMs)
  response.on('close', () => clearInterval(timer))
  while (sent < head) next()
}

server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
)
process.on('disconnect', () => process.exit(0))
