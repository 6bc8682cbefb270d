import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { RequestEnd, RequestSpan, SpanAttributes, SpanName, Tracing } from '../gateway/tracing.ts'
import { enginePath } from '../protocol/engine-paths.ts'
import { EvenkeelError, toProblem } from '../protocol/errors.ts'
import { type TraceContext, traceContextOf } from '../protocol/trace-context.ts'
import { splitTarget } from './request-meta.ts'
import type { Target } from './target.ts'

/** What a request is for. */
interface Purpose {
  readonly name: SpanName
  /** null: that is for the server behind to say. */
  readonly transport: string | null
}

/**
 * Begins a span for each request that opens something, and writes its context into the request's headers in place of the client's: whoever gets
 * these, a node or an upstream, continues it.
 */
export class RequestTraces {
  private readonly tracing: Tracing
  private readonly spans = new WeakMap<IncomingMessage, RequestSpan>()

  constructor(tracing: Tracing) {
    this.tracing = tracing
  }

  /** `target` is what a first look says: it may be another one once it is known who asks. */
  begin(request: IncomingMessage, answered: ServerResponse | Socket, target: Target): void {
    if (!this.tracing.isOn) return
    const response = 'statusCode' in answered ? answered : null
    const purpose = purposeOf(request, target, response === null)
    if (purpose === null) return
    const closed = () => span.end(endOf(response))
    const span = this.tracing.requested({
      name: purpose.name,
      context: traceContextOf(request.headers),
      attributes: {
        'http.request.method': request.method ?? 'GET',
        ...(purpose.transport === null ? {} : { 'evenkeel.transport': purpose.transport }),
        ...targetAttributes(target),
      },
      // What was opened goes on for long.
      over: () => answered.off('close', closed),
    })
    answered.once('close', closed)
    this.spans.set(request, span)
    if (span.context !== null) writeContext(request, span.context)
  }

  /** It is known where the request is to go. */
  judged(request: IncomingMessage, target: Target): void {
    if (this.tracing.isOn) this.spans.get(request)?.set(targetAttributes(target))
  }

  /** The client is to be answered with this error. */
  failed(request: IncomingMessage, error: unknown): void {
    const span = this.spans.get(request)
    if (span === undefined) return
    const code = error instanceof EvenkeelError ? error.code : 'INTERNAL'
    span.end({ outcome: 'refused', status: toProblem(error).status, code })
  }
}

function endOf(response: ServerResponse | null): RequestEnd {
  if (response?.headersSent !== true) return { outcome: 'client-left', status: null }
  return { outcome: response.writableFinished ? 'answered' : 'cut', status: response.statusCode }
}

/** null: it belongs to something that was opened before, or is traced otherwise. */
function purposeOf(request: IncomingMessage, target: Target, isUpgrade: boolean): Purpose | null {
  const { local, isProxied, route } = target
  const { method, headers } = request
  if (isProxied && isUpgrade) return { name: 'evenkeel.connect', transport: 'websocket' }
  if (isProxied && route?.protocol === 'llm' && method === 'POST')
    return { name: 'evenkeel.llm', transport: null }
  if (isProxied) {
    const isStream = method === 'GET' && (headers.accept ?? '').includes('text/event-stream')
    return isStream
      ? { name: 'evenkeel.connect', transport: 'sse' }
      : { name: 'evenkeel.request', transport: null }
  }
  const engine = enginePath(local)
  if (engine !== null) {
    const isNew = method === 'GET' && !new URLSearchParams(splitTarget(request.url!)[1]).has('sid')
    return isNew ? { name: 'evenkeel.connect', transport: engine.slice(1, -1) } : null
  }
  if (isUpgrade) return local === '/ws' ? { name: 'evenkeel.connect', transport: 'websocket' } : null
  if (local === '/sse' && method === 'GET') return { name: 'evenkeel.connect', transport: 'sse' }
  // A session over it counts as one over a WebSocket.
  if (local === '/sse/v1' && method === 'POST') return { name: 'evenkeel.connect', transport: 'websocket' }
  return null
}

/** A route's path is the operator's; that of a request may hold what is nobody's business. */
function targetAttributes({ route, local, isProxied, pool }: Target): SpanAttributes {
  const path = route?.path ?? (isProxied ? null : local)
  return {
    'evenkeel.pool': pool,
    ...(path === null ? {} : { 'http.route': path }),
    ...(route?.name === undefined ? {} : { 'evenkeel.route': route.name }),
  }
}

function writeContext(request: IncomingMessage, { traceparent, tracestate }: TraceContext): void {
  const { rawHeaders, headers } = request
  for (let i = rawHeaders.length - 2; i >= 0; i -= 2)
    if (/^trace(?:parent|state)$/i.test(rawHeaders[i]!)) rawHeaders.splice(i, 2)
  rawHeaders.push('traceparent', traceparent)
  headers.traceparent = traceparent
  delete headers.tracestate
  if (tracestate === undefined) return
  rawHeaders.push('tracestate', tracestate)
  headers.tracestate = tracestate
}
