import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import type { Dispatcher } from 'undici'
import type { Wish } from '../../core/balance/persistence.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import { DialError } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { shownBy } from '../request-meta.ts'
import { flowOf } from '../response-flow.ts'
import type { Target } from '../target.ts'
import { endToEnd, type HeaderPair, reasonPhrase } from './headers.ts'
import { UpstreamPools } from './pools.ts'
import { isCut, UpstreamRequest } from './request.ts'

/** Upstreams that one client's request is tried at. */
export const triesMax = 3

/** An answer that has begun. */
export interface Answered {
  readonly entry: UpstreamEntry
  readonly data: Dispatcher.ResponseData
  /** The head as the client is to get it. */
  readonly headers: HeaderPair[]
  /** See `Target`. */
  readonly key: string | null
}

export interface HttpProxyOptions {
  readonly gateway: Gateway
  /** Takes an answer that is a stream of events in place of this proxy. */
  stream(
    request: UpstreamRequest,
    answered: Answered,
    client: IncomingMessage,
    response: ServerResponse,
  ): void
}

/** Passes requests on to upstreams, streamed both ways. */
export class HttpProxy {
  readonly pools: UpstreamPools
  private readonly options: HttpProxyOptions

  constructor(options: HttpProxyOptions) {
    this.options = options
    this.pools = new UpstreamPools(options.gateway.limits)
  }

  /** Throws what the client is to be answered. */
  async request(client: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    const { pool, key, persistence } = target
    const { gateway } = this.options
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (response.destroyed) return
    const abort = new AbortController()
    // Whoever has gone wants no answer.
    response.once('close', () => abort.abort())
    response.setTimeout(gateway.limits.clientStallMs, () => {
      if (isStalled(client, response)) response.destroy()
    })
    const request = new UpstreamRequest(client)
    const wish = persistence?.wish(client) ?? null
    const shown = shownBy(client, key)
    const tried = new Set<UpstreamEntry>()
    for (;;) {
      const entry = gateway.choose(pool, wish, shown, tried) as UpstreamEntry | null
      if (entry === null)
        throw new EvenkeelError('NO_NODE', 'no server can take the request now; try again later')
      tried.add(entry)
      const cut = () => abort.abort()
      entry.requests.add(cut)
      const askedAt = gateway.now()
      try {
        const data = await request.ask(entry, this.pools, abort.signal)
        entry.answered(gateway.now() - askedAt, gateway.now())
        entry.report(data.statusCode >= 500 ? 'error-response' : 'ok')
        entry.messages++
        const answered = { entry, data, headers: this.head(data, client, entry, wish, target), key }
        await this.answer(request, answered, client, response)
        return
      } catch (error) {
        if (response.destroyed || response.headersSent) {
          if (!abort.signal.aborted && response.headersSent) entry.report('broken')
          response.destroy()
          return
        }
        if (abort.signal.aborted) throw unavailable('the server is drained')
        entry.report(
          error instanceof DialError ? 'connect-failed' : isCut(error) ? 'broken' : 'error-response',
        )
        const others = tried.size < triesMax && gateway.choose(pool, null, shown, tried) !== null
        if (!others || !request.mayRetry(error)) throw failure(error)
      } finally {
        entry.requests.delete(cut)
      }
    }
  }

  private head(
    { headers }: Dispatcher.ResponseData,
    client: IncomingMessage,
    entry: UpstreamEntry,
    wish: Wish | null,
    { persistence, headers: own }: Target,
  ): HeaderPair[] {
    const kept = [...endToEnd(headers as unknown as string[]), ...own]
    const isThere = wish !== null && 'node' in wish && wish.node === entry.id
    return persistence === null || isThere ? kept : [...kept, ...persistence.headers(client, entry.id)]
  }

  private async answer(
    request: UpstreamRequest,
    answered: Answered,
    client: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { data, headers } = answered
    if (client.method === 'GET' && isEventStream(answered)) {
      response.setTimeout(0)
      this.options.stream(request, answered, client, response)
      return
    }
    response.writeHead(data.statusCode, reasonPhrase(data), headers.flat())
    const flow = flowOf(response)
    const before = flow?.bytesWritten ?? 0
    await pipeline(data.body, response)
    const sent = Number(client.headers['content-length'] ?? 0)
    answered.entry.bytes += (flow?.bytesWritten ?? before) - before + (Number.isFinite(sent) ? sent : 0)
  }
}

/** Nothing moves on the client's connection: it is the client that is waited for, not the upstream. */
function isStalled(client: IncomingMessage, response: ServerResponse): boolean {
  const owesBody = !client.complete && client.readableLength === 0
  return owesBody || response.writableLength > 0
}

/** One that is compressed cannot be divided, and goes through as it is. */
function isEventStream({ data: { statusCode }, headers }: Answered): boolean {
  const value = (name: string) => headers.find(([one]) => one.toLowerCase() === name)?.[1] ?? ''
  const type = value('content-type').split(';')[0]!.trim().toLowerCase()
  const coding = value('content-encoding')
  return statusCode === 200 && type === 'text/event-stream' && (coding === '' || coding === 'identity')
}

/** What the client hears; which server it was is none of its business. */
export function failure(error: unknown): EvenkeelError {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  const late = error instanceof DialError ? error.timedOut : code === 'UND_ERR_HEADERS_TIMEOUT'
  return late
    ? new EvenkeelError('GATEWAY_TIMEOUT', 'the server did not answer in time', { cause: error })
    : new EvenkeelError('BAD_GATEWAY', 'the server could not be reached, or gave no proper answer', {
        cause: error,
      })
}

function unavailable(why: string): EvenkeelError {
  return new EvenkeelError('NOT_READY', why)
}
