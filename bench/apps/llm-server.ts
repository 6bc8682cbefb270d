import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sharedClockUs } from '../measure/clock.ts'

// An LLM server as its clients see it: tokens as events of the chat completions dialect, one write each, evenly spaced.

interface Order {
  /** 0: as many as the client waits for. */
  tokens: number
  intervalMs: number
}

const server = createServer({ noDelay: true }, (request, response) => {
  answer(request, response).catch(() => response.destroy())
})

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const { tokens = 1, intervalMs = 50 } = JSON.parse(Buffer.concat(chunks).toString()) as Partial<Order>
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  stream(response, { tokens, intervalMs })
}

function stream(response: ServerResponse, { tokens, intervalMs }: Order): void {
  let sent = 0
  const next = () => {
    response.write(eventOf(sent++))
    if (tokens === 0 || sent < tokens) return
    clearInterval(timer)
    response.end('data: [DONE]\n\n')
  }
  const timer = setInterval(next, intervalMs)
  response.on('close', () => clearInterval(timer))
  next()
}

function eventOf(sequence: number): string {
  const content = ` token${sequence}@${sharedClockUs()}`
  return `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{"content":"${content}"},"finish_reason":null}]}\n\n`
}

server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
)
process.on('disconnect', () => process.exit(0))
