import type { ServerResponse } from 'node:http'
import type { HeaderPair } from './target.ts'

/** Begins a stream of events that nobody on the way is to keep back. `headers` are what is said beside, `cookies` what may come several times. */
export function beginEventStream(
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
  cookies: readonly HeaderPair[] = [],
): void {
  for (const [name, value] of cookies) response.appendHeader(name, value)
  response.writeHead(200, {
    ...headers,
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
  response.socket?.setNoDelay(true)
  response.flushHeaders()
}
