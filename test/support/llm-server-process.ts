import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { eventsOf, parseOrder } from './llm-story.ts'

/**
 * A language model as its clients see it, deterministic: the `model` of a request says what it answers (`llm-story.ts`). `GET /state` says what it has
 * been asked.
 */
const state = {
  name: process.argv[2] ?? '',
  asked: 0,
  open: 0,
  connections: 0,
  gone: [] as number[],
  headers: [] as unknown[],
}

const sockets = new Set<unknown>()

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy())
})

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.url === '/state') {
    response.end(JSON.stringify(state))
    return
  }
  if (request.method !== 'POST') {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(`{"got":${JSON.stringify(request.url)}}`)
    return
  }
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const body = JSON.parse(Buffer.concat(chunks).toString()) as { model?: string; stream?: boolean }
  const order = parseOrder(body.model ?? '')
  state.asked++
  sockets.add(request.socket)
  state.connections = sockets.size
  state.headers.push(request.headers)
  if (order.reset) {
    request.socket.resetAndDestroy()
    return
  }
  state.open++
  let sent = 0
  response.on('close', () => {
    state.open--
    if (!response.writableFinished) state.gone.push(sent)
  })
  if (order.headMs > 0) await delay(order.headMs)
  if (order.status !== 200) {
    response
      .writeHead(order.status, { 'content-type': 'application/json', 'x-upstream': 'yes' })
      .end(JSON.stringify({ error: { message: `status ${order.status}`, type: 'mock' } }))
    return
  }
  const path = request.url!.split('?')[0]!
  if (body.stream !== true && !path.startsWith('/api/')) {
    response
      .writeHead(200, { 'content-type': 'application/json', 'x-served-by': state.name })
      .end(JSON.stringify({ model: body.model, choices: [{ message: { content: 'whole' } }] }))
    return
  }
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-served-by': state.name,
  })
  response.flushHeaders()
  for (const event of eventsOf(path, order)) {
    if (response.destroyed) return
    if (sent === order.cut) {
      // In the middle of an event.
      if (order.half) response.write(Buffer.from(event).subarray(0, 40))
      // A reset takes with it what was not read.
      if (order.half) await delay(50)
      response.socket!.resetAndDestroy()
      return
    }
    if (sent === order.stop) break
    const bytes = Buffer.from(event)
    for (let at = 0; at < bytes.length; at += order.piece) {
      const piece = bytes.subarray(at, at + order.piece)
      if (!response.write(piece))
        await new Promise((resolve) => response.once('drain', resolve).once('close', resolve))
      if (order.piece < bytes.length) await turn()
    }
    sent++
    if (order.everyMs > 0) await delay(order.everyMs)
  }
  response.end()
}

server.listen(Number(process.argv[3] ?? 0), '127.0.0.1', () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
)
