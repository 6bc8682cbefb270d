import type { Context, Link, Span as OtelSpan, Tracer as OtelTracer, SpanContext } from '@opentelemetry/api'
import { GatewayTracing } from '../gateway/gateway-tracing.ts'
import type { NewSpan, Span, SpanAttributes, SpanName, Tracer, Tracing } from '../gateway/tracing.ts'
import { noTracing } from '../gateway/tracing.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { TraceContext } from '../protocol/trace-context.ts'
import type { GatewayConfig } from './config-schema.ts'

type Api = typeof import('@opentelemetry/api')

export interface GatewayTracer {
  readonly tracing: Tracing
  /** Has what has ended sent, for at most this long. Never rejects. */
  flush(withinMs: number): Promise<void>
}

const off: GatewayTracer = { tracing: noTracing, flush: async () => {} }

/**
 * Loads OpenTelemetry's API only when the configuration wants it; who samples and exports is set up outside (docs/tracing.md).
 * Throws CONFIG_INVALID when it is not installed.
 */
export async function createTracing(
  { enabled, clientContext }: GatewayConfig['tracing'],
  load: () => Promise<Api> = () => import('@opentelemetry/api'),
): Promise<GatewayTracer> {
  if (!enabled) return off
  let api: Api
  try {
    api = await load()
  } catch (error) {
    throw new EvenkeelError(
      'CONFIG_INVALID',
      'tracing.enabled: the package @opentelemetry/api cannot be loaded; install it (npm install @opentelemetry/api), or set tracing.enabled to false',
      { cause: error },
    )
  }
  const tracer = new ApiTracer(api)
  return {
    tracing: new GatewayTracing(tracer, clientContext),
    flush: (withinMs) =>
      Promise.race([tracer.flush(), new Promise<void>((resolve) => setTimeout(resolve, withinMs).unref())]),
  }
}

/** Spans by the API of OpenTelemetry, and nothing but the API. */
class ApiTracer implements Tracer {
  private readonly api: Api
  private readonly tracer: OtelTracer

  constructor(api: Api) {
    this.api = api
    this.tracer = api.trace.getTracer('evenkeel')
  }

  start({ name, kind, parent, link, agoMs, attributes }: NewSpan): Span {
    const { SpanKind, ROOT_CONTEXT, trace } = this.api
    const linked = link === null ? null : this.spanContext(link)
    const links: Link[] = linked === null ? [] : [{ context: linked }]
    const context: Context =
      parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, this.spanContext(parent))
    const options = {
      kind: kind === 'server' ? SpanKind.SERVER : SpanKind.INTERNAL,
      attributes,
      links,
      ...(agoMs > 0 ? { startTime: Date.now() - agoMs } : {}),
    }
    return new ApiSpan(this.api, this.tracer.startSpan(name, options, context))
  }

  /** The API has no word for it; providers of the SDK have. */
  async flush(): Promise<void> {
    const provider = this.api.trace.getTracerProvider() as Flushable & { getDelegate?(): Flushable }
    try {
      await (provider.getDelegate?.() ?? provider).forceFlush?.()
    } catch {
      // Whoever exports has said so in its own way.
    }
  }

  private spanContext({ traceparent, tracestate }: TraceContext): SpanContext {
    const [, traceId, spanId, flags] = traceparent.split('-')
    return {
      traceId: traceId!,
      spanId: spanId!,
      traceFlags: Number.parseInt(flags!, 16),
      isRemote: true,
      ...(tracestate === undefined ? {} : { traceState: this.api.createTraceState(tracestate) }),
    }
  }
}

interface Flushable {
  forceFlush?(): Promise<void>
}

class ApiSpan implements Span {
  readonly context: TraceContext | null
  private readonly api: Api
  private readonly span: OtelSpan

  constructor(api: Api, span: OtelSpan) {
    this.api = api
    this.span = span
    this.context = contextOf(api, span.spanContext())
  }

  rename(name: SpanName): void {
    this.span.updateName(name)
  }

  set(attributes: SpanAttributes): void {
    this.span.setAttributes(attributes)
  }

  event(name: string, agoMs = 0): void {
    if (agoMs > 0) this.span.addEvent(name, Date.now() - agoMs)
    else this.span.addEvent(name)
  }

  end(isError: boolean): void {
    if (isError) this.span.setStatus({ code: this.api.SpanStatusCode.ERROR })
    this.span.end()
  }
}

function contextOf(api: Api, context: SpanContext): TraceContext | null {
  if (!api.isSpanContextValid(context)) return null
  const { traceId, spanId, traceFlags, traceState } = context
  const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
  const tracestate = traceState?.serialize() ?? ''
  return tracestate === '' ? { traceparent } : { traceparent, tracestate }
}
