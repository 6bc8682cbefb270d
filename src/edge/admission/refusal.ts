import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ErrorCode, EvenkeelError } from '../../protocol/errors.ts'
import { beginEventStream } from '../event-stream.ts'
import { cutSoon } from '../last-words.ts'

export interface RefusalDetails {
  /** Absent: it need not come back. */
  readonly retryAfterMs?: number
  /** What the answer has beside those of every problem. */
  readonly headers?: Readonly<Record<string, string>>
  /** The connection is not to be used again: default true. */
  readonly closes?: boolean
}

/** A client that is not let in, or not now. */
export class Refusal extends EvenkeelError {
  readonly retryAfterMs: number | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly closes: boolean

  constructor(
    code: ErrorCode,
    message: string,
    { retryAfterMs, headers = {}, closes = true }: RefusalDetails,
  ) {
    super(code, message)
    this.retryAfterMs = retryAfterMs
    this.headers = headers
    this.closes = closes
  }
}

/**
 * `EventSource` takes a status like 503 for the end of all attempts. It is sent away by a stream that ends and says when to come back.
 * Returns false when the client is none, or shall not come back.
 */
export function sendAway(
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  headers: Record<string, string>,
): boolean {
  if (!(error instanceof Refusal) || error.retryAfterMs === undefined || response.headersSent) return false
  const { accept = '', 'last-event-id': lastEventId } = request.headers
  const isPatient = accept.includes('text/event-stream') || lastEventId !== undefined
  if (request.method !== 'GET' || !isPatient) return false
  beginEventStream(response, headers)
  const { socket } = response
  response.end(`retry: ${Math.ceil(error.retryAfterMs)}\n\n`)
  if (error.closes) {
    socket?.destroySoon()
    cutSoon(socket)
  }
  return true
}
