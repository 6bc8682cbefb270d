import type { IncomingMessage } from 'node:http'
import { corsHeaders } from '../sse.ts'
import { endToEnd } from '../upstream/headers.ts'

/** What the gateway says itself of a stream. */
const own: ReadonlySet<string> = new Set(['content-length', 'cache-control', 'x-accel-buffering', 'x-run-id'])

/** Whether the answer is a stream of events. One that is compressed cannot be divided, and goes through as it is. */
export function isEventStream(status: number, headers: readonly string[]): boolean {
  const type = headerOf(headers, 'content-type').split(';')[0]!.trim().toLowerCase()
  const coding = headerOf(headers, 'content-encoding').toLowerCase()
  return status === 200 && type === 'text/event-stream' && (coding === '' || coding === 'identity')
}

export function plainHead(headers: readonly string[]): string[] {
  // Where it is divided into chunks, a length says nothing.
  const isChunked = headers.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'transfer-encoding')
  return endToEnd(headers)
    .filter(([name]) => !isChunked || name.toLowerCase() !== 'content-length')
    .flat()
}

/** `headers`: of the server; none: it has not answered yet. `run`: null: it is not logged. */
export function streamHead(
  headers: readonly string[],
  client: IncomingMessage,
  run: string | null,
): string[] {
  const kept =
    headers.length === 0
      ? [['content-type', 'text/event-stream'], ...Object.entries(corsHeaders(client))]
      : endToEnd(headers).filter(([name]) => !own.has(name.toLowerCase()))
  const head = [...kept, ['Cache-Control', 'no-cache, no-transform'], ['X-Accel-Buffering', 'no']]
  if (run !== null) head.push(['X-Run-Id', run])
  const has = (wanted: string) => kept.some(([name]) => name!.toLowerCase() === wanted)
  if (has('access-control-allow-origin') && !has('access-control-expose-headers'))
    head.push(['Access-Control-Expose-Headers', 'X-Run-Id'])
  return head.flat()
}

/** What an answer says that is an error; null: nothing that is understood. */
export function messageOf(body: string): string | null {
  try {
    const { error, message } = JSON.parse(body) as {
      error?: { message?: unknown } | string
      message?: unknown
    }
    const said = typeof error === 'string' ? error : (error?.message ?? message)
    return typeof said === 'string' ? said.slice(0, 1_024) : null
  } catch {
    return null
  }
}

function headerOf(headers: readonly string[], name: string): string {
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (headers[i]!.toLowerCase() === name) return headers[i + 1]!
  return ''
}
