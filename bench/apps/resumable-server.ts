import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { Redis } from 'ioredis'
import { createResumableStreamContext } from 'resumable-stream/ioredis'
import { tokenEvent } from './token-event.ts'

// What is often put in front of a model to make its streams resumable: npm `resumable-stream`, with Redis.

const [redisUrl = ''] = process.argv.slice(2)
const context = createResumableStreamContext({
  waitUntil: () => {},
  publisher: new Redis(redisUrl),
  subscriber: new Redis(redisUrl),
})

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url!, 'http://bench')
  const id = searchParams.get('id') ?? ''
  const stream =
    pathname === '/start'
      ? context.createNewResumableStream(id, () => tokens(Number(searchParams.get('head'))))
      : context.resumeExistingStream(id, Number(searchParams.get('from') ?? 0))
  stream.then(
    (found) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      if (found)
        Readable.fromWeb(found as never)
          .on('error', () => response.destroy())
          .pipe(response)
      else response.end()
    },
    () => response.destroy(),
  )
})

/** Some at once, then one a second. */
function tokens(head: number): ReadableStream<string> {
  let sent = 0
  let timer: NodeJS.Timeout
  return new ReadableStream<string>({
    start(controller) {
      const next = () => controller.enqueue(tokenEvent(sent++))
      while (sent < head) next()
      timer = setInterval(next, 1_000)
    },
    cancel: () => clearInterval(timer),
  })
}

server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
)
process.on('disconnect', () => process.exit(0))
