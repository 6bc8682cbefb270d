import type { ServerResponse } from 'node:http'
import type { Operator } from '../gateway/operator.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { AdminLogger } from './logger.ts'

export interface EventStreamOptions {
  /** Comment line that keeps proxies and clients from giving up. Default 15,000 ms. */
  heartbeatMs?: number
  /** A client with more unread bytes than this is dropped. Default: the gateway's `clientBufferBytes`. */
  bufferBytesMax?: number
  /** Streams open at once; the next one gets 429. Default 64. */
  streamsMax?: number
}

export interface EventStreams {
  /** Starts a stream that ends with its client. Throws TOO_MANY_REQUESTS. */
  open(response: ServerResponse): void
}

/** Operator events as Server-Sent Events: `event:` is the type, `data:` the event as JSON. */
export function createEventStreams(
  operator: Operator,
  logger: AdminLogger,
  options: EventStreamOptions = {},
): EventStreams {
  const {
    heartbeatMs = 15_000,
    bufferBytesMax = operator.limits.clientBufferBytes,
    streamsMax = 64,
  } = options
  let streams = 0

  return {
    open(response) {
      if (streams >= streamsMax) {
        throw new EvenkeelError('TOO_MANY_REQUESTS', `${streamsMax} event streams are open already.`)
      }
      streams += 1

      const write = (text: string) => {
        if (response.destroyed) return
        response.write(text)
        // Never wait for a slow reader: the gateway's memory is worth more than its view of events.
        if (response.writableLength > bufferBytesMax) {
          logger.warn(
            { unreadBytes: response.writableLength },
            'event stream dropped: its client does not read',
          )
          response.destroy()
        }
      }
      const unsubscribe = operator.onEvent((event) =>
        write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`),
      )
      const heartbeat = setInterval(() => write(':\n\n'), heartbeatMs)
      response.on('close', () => {
        streams -= 1
        unsubscribe()
        clearInterval(heartbeat)
      })

      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
      response.flushHeaders()
      write(': connected\n\n')
    },
  }
}
