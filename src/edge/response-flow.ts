import type { ServerResponse } from 'node:http'
import { Http2Response } from './http2/response.ts'

/** What was written of an answer, and how much of that waits: of its connection, or of its stream where it shares one. */
export interface ResponseFlow {
  readonly bytesWritten: number
  readonly writableLength: number
}

/** null: it has lost its connection. */
export function flowOf(response: ServerResponse): ResponseFlow | null {
  const one: unknown = response
  return one instanceof Http2Response ? one : response.socket
}
