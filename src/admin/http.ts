import type { IncomingMessage, ServerResponse } from 'node:http'
import { EvenkeelError, toProblem } from '../protocol/errors.ts'

/** The largest request body that the admin API reads. */
export const bodyBytesMax = 64 * 1024

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', JSON.stringify(value))
}

export function sendProblem(
  response: ServerResponse,
  error: unknown,
  headers: Record<string, string> = {},
  /** Members beside those of every problem (RFC 9457 §3.2). */
  more: Record<string, unknown> = {},
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  const problem = toProblem(error)
  send(
    response,
    problem.status,
    'application/problem+json; charset=utf-8',
    JSON.stringify({ ...problem, ...more }),
  )
}

export function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

/**
 * The body as JSON; `{}` when there is none.
 * Throws UNSUPPORTED_MEDIA_TYPE, TOO_LARGE or BAD_REQUEST.
 */
export async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const declared = request.headers['content-length']
  if (
    request.headers['transfer-encoding'] === undefined &&
    (declared === undefined || Number(declared) === 0)
  ) {
    return {}
  }
  assertJsonType(request)
  if (Number(declared) > bodyBytesMax) throw tooLarge()
  const bytes = await readBytes(request)
  if (bytes.length === 0) return {}
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw new EvenkeelError('BAD_REQUEST', 'The body is not JSON.')
  }
}

function assertJsonType({ headers }: IncomingMessage): void {
  const mediaType = headers['content-type']?.split(';')[0]?.trim().toLowerCase()
  if (mediaType !== 'application/json') {
    throw new EvenkeelError('UNSUPPORTED_MEDIA_TYPE', 'Send the body with "Content-Type: application/json".')
  }
  const encoding = headers['content-encoding']?.toLowerCase() ?? 'identity'
  if (encoding !== 'identity') {
    throw new EvenkeelError('UNSUPPORTED_MEDIA_TYPE', 'Send the body without Content-Encoding.')
  }
}

async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let total = 0
  // Leaving the loop early must not destroy the socket: the 413 still has to reach the caller.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    total += chunk.length
    if (total > bodyBytesMax) break
    chunks.push(chunk)
  }
  if (total <= bodyBytesMax) return Buffer.concat(chunks, total)
  // Thrown away as it comes: unread, the rest would block the connection's next request.
  request.resume()
  throw tooLarge()
}

function tooLarge(): EvenkeelError {
  return new EvenkeelError('TOO_LARGE', `The body is larger than ${bodyBytesMax} bytes.`)
}
