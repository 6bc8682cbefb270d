import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dialect } from '../core/llm/dialect.ts'
import { formatOffset, origin } from '../core/run/offset.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { RunReader, RunService, RunSink, StartRun } from '../gateway/run-types.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import { encodeComment } from '../protocol/sse.ts'
import { traceContextOf } from '../protocol/trace-context.ts'
import { BodyWriter } from './body-writer.ts'
import { beginEventStream } from './event-stream.ts'
import { ownRuns } from './identity/run-owner.ts'
import { watchSender } from './identity/watch.ts'
import { readBody } from './request-body.ts'
import { checkOrigin, splitTarget } from './request-meta.ts'
import { encodeRaw, encodeRunSse, formatOf } from './run-encoding.ts'
import { corsHeaders } from './sse.ts'
import type { Target } from './target.ts'

export interface RunsEdgeOptions {
  gateway: Pick<Gateway, 'runs' | 'limits'>
}

/** Readers that are sent away come back spread over this time. */
const reconnectSpreadMs = 2_000
/** What a body may have beside the handler's request. */
const envelopeBytes = 4 * 1024

/** Token streams over HTTP (PROTOCOL.md §6): `POST /runs`, `GET /runs/{id}/events`, `POST /runs/{id}/cancel`. */
export class RunsEdge {
  private readonly options: RunsEdgeOptions

  constructor(options: RunsEdgeOptions) {
    this.options = options
  }

  /** Throws what the client is to be answered. */
  async request(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    checkOrigin(request, target.settings.allowedOrigins)
    const [path, query] = splitTarget(request.url!)
    const [, , run, what, ...rest] = path.split('/')
    const known = run === undefined || (rest.length === 0 && (what === 'events' || what === 'cancel'))
    if (!known)
      throw new EvenkeelError('NOT_FOUND', 'nothing here; try /runs/{id}/events or /runs/{id}/cancel')
    const runs = ownRuns(this.options.gateway.runs, target)
    if (request.method === 'OPTIONS') preflight(request, response)
    else if (run === undefined) await this.start(request, response, target.pool, runs)
    else if (what === 'events') await this.events(request, response, run, query, runs)
    else await this.cancel(request, response, run, runs)
  }

  /** `pool`: for requests that name none. */
  private async start(
    request: IncomingMessage,
    response: ServerResponse,
    pool: string,
    runs: RunService,
  ): Promise<void> {
    allow(request, 'POST')
    const { limits } = this.options.gateway
    const key = request.headers['idempotency-key']
    if (Array.isArray(key)) throw new EvenkeelError('BAD_REQUEST', 'one Idempotency-Key at most')
    const text = (await readBody(request, limits.runRequestBytes + envelopeBytes)).toString()
    const context = traceContextOf(request.headers)
    const trace = context === null ? null : { ...context, isLink: false }
    const { run } = await runs.start({ ...parseStart(text, pool), idempotencyKey: key ?? null, trace })
    await this.stream(request, response, run, null, runs)
  }

  private async events(
    request: IncomingMessage,
    response: ServerResponse,
    run: string,
    query: string,
    runs: RunService,
  ): Promise<void> {
    allow(request, 'GET')
    // EventSource comes back to the URL that it began with: what it has seen since is newer.
    const after = request.headers['last-event-id'] || new URLSearchParams(query).get('after')
    await this.stream(request, response, run, String(after ?? '') || null, runs)
  }

  private async cancel(
    request: IncomingMessage,
    response: ServerResponse,
    run: string,
    runs: RunService,
  ): Promise<void> {
    allow(request, 'POST')
    const state = await runs.cancel(run)
    response
      .writeHead(200, { 'content-type': 'application/json', ...corsHeaders(request) })
      .end(JSON.stringify(state))
  }

  private async stream(
    request: IncomingMessage,
    response: ServerResponse,
    run: string,
    after: string | null,
    runs: RunService,
  ): Promise<void> {
    if (response.destroyed) return
    const { limits } = this.options.gateway
    const stream = new RunResponse(request, response, run, limits)
    // Whoever comes back has to show another token.
    const watch = watchSender(request, { over: () => stream.close('away') })
    response.once('close', () => watch?.stop())
    const opened = await runs.openReader(run, after, stream)
    if (opened.verdict === 'over') RunResponse.nothing(request, response, run)
    else if (opened.verdict === 'gap') throw new RunGap(opened.oldest)
    else if (stream.refused) {
      opened.reader.close()
      throw new RunGap(formatOffset(origin))
    } else stream.opened(opened.reader)
  }
}

/** What followed the reader's offset is lost. */
export class RunGap extends EvenkeelError {
  readonly oldest: string
  constructor(oldest: string) {
    super(
      'GONE',
      `what followed this offset is lost; the run can be read from ${oldest} on, or from its beginning`,
    )
    this.oldest = oldest
  }
}

/** What a reader may have unsent and be given more: with another entry it has no more than it may have. */
export function roomBytes({ runReaderBytes, runEntryBytes }: Readonly<Limits>): number {
  return Math.max(0, runReaderBytes - runEntryBytes)
}

/** A response that carries a run's events. */
export class RunResponse implements RunSink {
  private readonly response: ServerResponse
  private readonly writer: BodyWriter
  private readonly roomBytes: number
  private readonly ids: boolean
  private readonly headers: Record<string, string>
  private reader: RunReader | null = null
  private gone = false
  /** null: native events, or nothing has come yet. */
  private dialect: Dialect | null = null
  /** The client has more than there is, and cannot be told so in this dialect. */
  refused = false

  /** `ids`: whether events that another server made get ids. Default true. */
  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    run: string,
    limits: Readonly<Limits>,
    { ids = true }: { ids?: boolean } = {},
  ) {
    this.response = response
    this.ids = ids
    this.writer = new BodyWriter(response, 0)
    this.roomBytes = roomBytes(limits)
    this.headers = runHeaders(request, run)
    response.on('close', () => {
      this.gone = true
      this.writer.discard()
      this.reader?.close()
    })
  }

  /** Nothing follows, and nothing will. */
  static nothing(request: IncomingMessage, response: ServerResponse, run: string | null): void {
    response.writeHead(204, run === null ? corsHeaders(request) : runHeaders(request, run)).end()
  }

  opened(reader: RunReader): void {
    this.reader = reader
    if (!this.response.headersSent) this.head()
    if (this.gone) reader.close()
  }

  write(batch: Parameters<RunSink['write']>[0]): boolean {
    this.dialect ??= formatOf(batch)
    this.refused ||= this.dialect !== null && batch.events.some(({ event }) => event.type === 'fence')
    if (this.refused) return true
    if (!this.response.headersSent) this.head()
    const bytes = this.dialect === null ? encodeRunSse(batch) : encodeRaw(batch, this.dialect, this.ids)
    const { writer } = this
    writer.write(bytes)
    writer.flush()
    if (writer.unsent <= this.roomBytes) return true
    writer.whenSent(() => this.reader?.drained())
    return false
  }

  heartbeat(): void {
    this.writer.write(Buffer.from(encodeComment('hb')))
    this.writer.flush()
  }

  close(reason: 'ended' | 'away'): void {
    if (this.refused) return
    if (!this.response.headersSent) this.head()
    if (reason === 'away')
      this.writer.write(Buffer.from(`retry: ${Math.ceil(Math.random() * reconnectSpreadMs)}\n\n`))
    this.writer.finish()
  }

  private head(): void {
    const isAiSdk = this.dialect === 'ai-sdk'
    beginEventStream(this.response, {
      ...this.headers,
      ...(isAiSdk ? { 'x-vercel-ai-ui-message-stream': 'v1' } : {}),
    })
  }
}

function parseStart(text: string, pool: string): Omit<StartRun, 'idempotencyKey'> {
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch {
    // Said below, without quoting what a user has written.
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new EvenkeelError('BAD_REQUEST', 'the body must be a JSON object {name, body, pool?, mode?}')
  const { name, body, pool: wanted = pool, mode = 'durable' } = given as Record<string, unknown>
  if (typeof name !== 'string')
    throw new EvenkeelError('BAD_REQUEST', 'name must say which run of the node is meant')
  if (typeof wanted !== 'string') throw new EvenkeelError('BAD_REQUEST', 'pool must be a string')
  if (mode !== 'durable' && mode !== 'attached')
    throw new EvenkeelError('BAD_REQUEST', 'mode must be durable or attached')
  if (body === undefined)
    throw new EvenkeelError('BAD_REQUEST', 'body is missing: what the node is to be given')
  return { pool: wanted, name, requestJson: JSON.stringify(body), mode }
}

function runHeaders(request: IncomingMessage, run: string): Record<string, string> {
  return {
    ...corsHeaders(request),
    'access-control-expose-headers': 'x-run-id, retry-after',
    'x-run-id': run,
  }
}

function preflight(request: IncomingMessage, response: ServerResponse): void {
  response
    .writeHead(204, {
      ...corsHeaders(request),
      'access-control-allow-methods': 'GET, POST',
      'access-control-allow-headers': 'authorization, content-type, idempotency-key, last-event-id',
      'access-control-max-age': '600',
    })
    .end()
}

function allow(request: IncomingMessage, method: string): void {
  if (request.method !== method) throw new EvenkeelError('METHOD_NOT_ALLOWED', `use ${method}`)
}
