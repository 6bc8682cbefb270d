import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import { EventCursor } from '../../core/sse/event-cursor.ts'
import type { ClientConnection, SharedMessages } from '../../gateway/client-connection.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import { DialError, type UpstreamDial, type UpstreamListener } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { UpstreamLine } from '../../gateway/upstream-line.ts'
import { CloseCode } from '../../protocol/close-codes.ts'
import { watchSender } from '../identity/watch.ts'
import { cutSoon } from '../last-words.ts'
import { requestMeta } from '../request-meta.ts'
import { reasonPhrase } from './headers.ts'
import type { Answered } from './http-proxy.ts'
import type { UpstreamPools } from './pools.ts'
import type { UpstreamRequest } from './request.ts'
import { SseUpstream } from './sse-upstream.ts'

const reconnectSpreadMs = 2_000

/** The client's side of a stream of events that an upstream makes: what comes is whole events, as they are. */
class EventClient implements ClientConnection {
  readonly transport = 'sse'
  private readonly response: ServerResponse

  constructor(response: ServerResponse) {
    this.response = response
  }

  get pendingBytes(): number {
    return this.response.writableLength
  }

  deliver(batch: Buffer, start: number, end: number): boolean {
    return this.response.write(batch.subarray(start, end))
  }

  /** Sessions of upstreams are in no channel. */
  deliverShared(_shared: SharedMessages): void {}

  keepsUp(): boolean {
    return !this.response.writableNeedDrain
  }

  /** There is nothing to pause: a stream of events goes one way. */
  pause(): void {}
  resume(): void {}

  close(code: number): void {
    const { response } = this
    if (response.writableEnded) return
    const { socket } = response
    if (code === CloseCode.serviceRestart || code === CloseCode.tryAgainLater) {
      // EventSource comes back by itself after this time, and not all at once.
      response.end(`retry: ${Math.ceil(Math.random() * reconnectSpreadMs)}\n\n`)
    } else if (code !== CloseCode.badGateway) response.end()
    // Without an end: whoever reads it as one answer is to see that it is not whole.
    socket?.destroySoon()
    cutSoon(socket)
  }
}

/** Asks upstreams for a client's stream, each behind the last event that the client was given. */
class EventDial implements UpstreamDial {
  readonly cursor: EventCursor
  private readonly request: UpstreamRequest
  private readonly pools: UpstreamPools
  private readonly eventBytes: number

  constructor(request: UpstreamRequest, pools: UpstreamPools, lastId: string, eventBytes: number) {
    this.request = request
    this.pools = pools
    this.cursor = new EventCursor(lastId)
    this.eventBytes = eventBytes
  }

  get resumable(): boolean {
    return this.cursor.resumable
  }

  async open(entry: UpstreamEntry, listener: UpstreamListener, signal: AbortSignal): Promise<SseUpstream> {
    const since = this.cursor.lastId
    const stop = new AbortController()
    const abort = () => stop.abort()
    signal.addEventListener('abort', abort, { once: true })
    try {
      const data = await this.request.ask(entry, this.pools, stop.signal, { 'last-event-id': since })
      if (!isEvents(data)) {
        data.body.on('error', () => {}).destroy()
        entry.report(data.statusCode >= 500 ? 'error-response' : 'ok')
        throw new DialError(`upstream ${entry.id} answered with ${data.statusCode} and no events`)
      }
      entry.report('ok')
      return this.connection(data, entry, listener, since)
    } catch (error) {
      if (error instanceof DialError && error.unanswered) entry.report('connect-failed')
      throw error instanceof DialError ? error : new DialError('cut', { unanswered: true, cause: error })
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  connection(
    { body }: Dispatcher.ResponseData,
    entry: UpstreamEntry,
    listener: UpstreamListener,
    since: string,
  ): SseUpstream {
    return new SseUpstream(body, entry, listener, this.cursor, since, this.eventBytes)
  }
}

/** The answer to a client's request is a stream of events: it becomes a session. */
export function openEventSession(
  gateway: Gateway,
  pools: UpstreamPools,
  request: UpstreamRequest,
  { entry, data, headers, key }: Answered,
  client: IncomingMessage,
  response: ServerResponse,
): void {
  const lastId = client.headers['last-event-id']
  const since = typeof lastId === 'string' ? lastId : ''
  const dial = new EventDial(request, pools, since, gateway.limits.messageBytes)
  const line = new UpstreamLine(entry)
  line.adopt(dial.connection(data, entry, line, since))
  response.writeHead(data.statusCode, reasonPhrase(data), withoutLength(headers))
  response.flushHeaders()
  response.socket?.setNoDelay(true)
  const connection = new EventClient(response)
  const meta = requestMeta(client, 'sse', '')
  const session = gateway.upstreams!.openSession(entry.pool, meta, connection, dial, key)
  response.on('drain', () => session.connectionDrained())
  // Whoever comes back has to show another token.
  const watch = watchSender(client, { over: (code, reason) => session.dismiss(code, reason) })
  response.on('close', () => {
    watch?.stop()
    session.connectionClosed(connection, CloseCode.abnormal, '')
  })
  session.begin(line)
}

/** What follows may come from several upstreams. */
function withoutLength(headers: Answered['headers']): string[] {
  return headers.filter(([name]) => name.toLowerCase() !== 'content-length').flat()
}

function isEvents({ statusCode, headers }: Dispatcher.ResponseData): boolean {
  const raw = headers as unknown as string[]
  const at = raw.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'content-type')
  return statusCode === 200 && /^text\/event-stream\b/i.test(raw[at + 1] ?? '')
}
