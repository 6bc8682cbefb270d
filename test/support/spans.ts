import { type SpanContext, trace } from '@opentelemetry/api'
import { type ReadableSpan, type Sampler, TracerProvider } from '@opentelemetry/sdk-trace'
import { onTestFinished } from 'vitest'
import { until } from './until.ts'

/** Where spans of this process end up until the test is over, as an operator's SDK would have it. */
export class Spans {
  readonly ended: ReadableSpan[] = []
  flushes = 0
  private readonly looks = new Set<() => void>()

  /** Default: the SDK's own sampler, which does what the parent says. */
  static collect(sampler?: Sampler): Spans {
    const spans = new Spans()
    const provider = new TracerProvider({
      ...(sampler === undefined ? {} : { sampler }),
      spanProcessors: [
        {
          onStart() {},
          onEnd: (span) => {
            spans.ended.push(span)
            for (const look of spans.looks) look()
          },
          async forceFlush() {
            spans.flushes++
          },
          async shutdown() {},
        },
      ],
    })
    trace.disable()
    trace.setGlobalTracerProvider(provider)
    onTestFinished(() => trace.disable())
    return spans
  }

  /** As if no SDK had been set up. */
  static stop(): void {
    trace.disable()
  }

  named(name: string): ReadableSpan[] {
    return this.ended.filter((span) => span.name === name)
  }

  /** Waits until there are so many of this name, and gives the last one. */
  async last(name: string, count = 1): Promise<ReadableSpan> {
    await until(() => this.named(name).length >= count, this.looks, { what: `${count} × ${name}` })
    return this.named(name)[count - 1]!
  }
}

export function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

/** Trace and parent: what the span continues. */
export function parentOf(span: ReadableSpan): string | null {
  return span.parentSpanContext === undefined ? null : traceparentOf(span.parentSpanContext)
}

export function linksOf(span: ReadableSpan): string[] {
  return span.links.map(({ context }) => traceparentOf(context))
}
