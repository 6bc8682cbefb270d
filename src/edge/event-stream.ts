import type { ServerResponse } from 'node:http'

/** Begins a stream of events that nobody on the way is to keep back. `headers` are what is said beside. */
export function beginEventStream(response: ServerResponse, headers: Readonly<Record<string, string>>): void {
  response.writeHead(200, {
    ...headers,
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
  response.socket?.setNoDelay(true)
  response.flushHeaders()
}
