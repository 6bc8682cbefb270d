import { z } from 'zod'

export const tracingSchema = z
  .strictObject({
    enabled: z
      .boolean()
      .default(false)
      .describe('true: OpenTelemetry spans, by the package @opentelemetry/api, which has to be installed.'),
    clientContext: z
      .enum(['parent', 'link'])
      .default('parent')
      .describe(
        "What a client's traceparent is taken for. parent: its trace goes on here, and it says whether that is sampled. link: a trace of its own, which points there.",
      ),
  })
  .prefault({})
  .describe('Spans of what the gateway does (docs/tracing.md).')
