import type { IncomingMessage } from 'node:http'
import { EvenkeelError } from '../protocol/errors.ts'

/** Throws TOO_LARGE. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new EvenkeelError('TOO_LARGE', `a request has at most ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
