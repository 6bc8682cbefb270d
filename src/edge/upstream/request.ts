import type { IncomingMessage } from 'node:http'
import type { Dispatcher } from 'undici'
import { DialError } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { clientAddress } from '../request-meta.ts'
import { upstreamHeaders } from './headers.ts'
import type { UpstreamPools } from './pools.ts'
import { proxyHeaderFor } from './proxy-header.ts'

/** RFC 9110 §9.2.2; what was asked twice is as if it was asked once. */
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE'])

/** Ends of a connection that say nothing of the request. */
const cutCodes: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

/** One request of a client, as it is asked of upstreams. */
export class UpstreamRequest {
  /** Some of its body may have been sent. */
  bodyBegun = false
  private readonly request: IncomingMessage
  private readonly hasBody: boolean

  constructor(request: IncomingMessage) {
    this.request = request
    const { 'content-length': length, 'transfer-encoding': coding } = request.headers
    this.hasBody = coding !== undefined || (length !== undefined && length !== '0')
  }

  /** Whether another upstream may be asked after this failure: nothing was sent, or what was sent may be sent twice. */
  mayRetry(error: unknown): boolean {
    if (this.bodyBegun) return false
    if (error instanceof DialError) return true
    return !this.hasBody && idempotent.has(this.request.method!) && isCut(error)
  }

  /** Resolves with the head of the answer. `extra` headers replace the client's. */
  ask(
    entry: UpstreamEntry,
    pools: UpstreamPools,
    signal: AbortSignal,
    extra: Readonly<Record<string, string>> = {},
  ): Promise<Dispatcher.ResponseData> {
    const { request } = this
    const wantsEvents = (request.headers.accept ?? '').includes('text/event-stream')
    // A compressed stream of events could not be divided. Node has answered `expect` itself.
    const drop = (name: string) =>
      name === 'expect' || Object.hasOwn(extra, name) || (wantsEvents && name === 'accept-encoding')
    const headers = upstreamHeaders(request, entry.upstream.url, drop)
    for (const [name, value] of Object.entries(extra)) headers.push([name, value])
    const asked: Dispatcher.RequestOptions = {
      method: request.method as Dispatcher.HttpMethod,
      path: request.url!,
      headers: headers.flat(),
      body: this.hasBody ? (this.body() as never) : null,
      responseHeaders: 'raw',
      signal,
    }
    const header = proxyHeaderFor(entry, request.socket, clientAddress(request))
    if (header === null) return pools.of(entry).request(asked)
    const pool = pools.once(entry, header)
    const answer = pool.request({ ...asked, reset: true })
    pools.release(pool)
    return answer
  }

  /** Not the request itself: undici would destroy that, and with it the client's connection, when an upstream fails. */
  private async *body(): AsyncGenerator<Buffer> {
    this.bodyBegun = true
    yield* this.request.iterator({ destroyOnReturn: false })
  }
}

export function isCut(error: unknown): boolean {
  return cutCodes.has((error as NodeJS.ErrnoException).code ?? '')
}
