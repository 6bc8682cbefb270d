import { z } from 'zod'
import { poolBalanceShape } from './balance-schema.ts'
import { timerMsMax } from './choices.ts'

const upstreamsMax = 1_000
const routesMax = 1_000

const weight = z.number().positive().max(1_000_000)

const url = z
  .string()
  .regex(/^https?:\/\/[^\s/?#@]+\/?$/)
  .refine((text) => URL.canParse(text))
  .meta({ examples: ['http://127.0.0.1:3000'] })

const upstream = z.union([
  url,
  z.strictObject({
    url,
    id: z
      .string()
      .regex(/^[A-Za-z0-9._:-]{1,64}$/)
      .exactOptional()
      .describe('Its name for operators. Default: host:port.'),
    weight: weight.default(1),
  }),
])

const dns = z
  .strictObject({
    name: z.string().min(1).max(255).describe('Fully qualified.'),
    type: z
      .enum(['A', 'SRV'])
      .default('A')
      .describe('A: A and AAAA records. SRV: these bring ports and weights along.'),
    port: z.int().min(1).max(65_535).exactOptional().describe('For A. Default: that of the scheme.'),
    scheme: z.enum(['http', 'https']).default('http'),
    intervalMs: z.int().min(100).max(timerMsMax).default(5_000).describe('Milliseconds between look-ups.'),
    servers: z
      .array(z.string().min(1).max(255))
      .min(1)
      .exactOptional()
      .describe('Name servers, address or address:port. Default: those of the system.'),
  })
  .describe('Every address of the name is an upstream.')

const probe = z
  .strictObject({
    path: z
      .string()
      .regex(/^\/[\x21-\x7e]{0,254}$/)
      .exactOptional()
      .describe('Asked by GET; 200 to 399 is a success. Default: a TCP connection is one.'),
    intervalMs: z.int().min(100).max(timerMsMax).default(5_000).describe('Milliseconds between probes.'),
    timeoutMs: z.int().min(1).max(timerMsMax).default(2_000),
    failures: z
      .int()
      .min(1)
      .max(1_000)
      .default(3)
      .describe('Failures in a row until it is unhealthy; one success brings it back.'),
  })
  .prefault({})
  .describe('How it is found out whether an upstream lives.')

const pool = z.strictObject({
  upstreams: z.array(upstream).max(upstreamsMax).default([]).describe('Servers that are known by URL.'),
  dns: dns.exactOptional(),
  migrate: z
    .enum(['drain', 'redial'])
    .default('drain')
    .describe(
      'drain: sessions stay with their upstream until they end. redial: they move by a new connection to another one.',
    ),
  probe,
  allowedAddresses: z
    .array(z.string().min(1).max(64))
    .min(1)
    .exactOptional()
    .describe('CIDR blocks that upstreams may be in. Default: all but those that are never an upstream.'),
  ...poolBalanceShape,
})

const fieldPath = z.string().regex(/^[\x21-\x7e]{1,128}$/)

/** Pools by name; all but the one that serves clients by default are of upstreams. The keys are part of cookie names and metrics. */
export const poolsSchema = z
  .record(z.string().regex(/^[A-Za-z0-9._-]{1,64}$/), pool)
  .default({})
  .describe(
    'Pools of servers that cannot be changed, by name; and how each pool is balanced, also that of pool.',
  )

export const routesSchema = z
  .array(
    z.strictObject({
      path: z
        .string()
        .regex(/^\/[^\s?#*]{0,254}\*?$/)
        .describe('A path, or with * at its end all that begin so.')
        .meta({ examples: ['/legacy/*'] }),
      pool: z.string().min(1).max(64).describe('One of pools, with upstreams.'),
      protocol: z
        .enum(['http', 'llm'])
        .exactOptional()
        .describe(
          'Default: http. llm: language models; what they stream is logged as runs and can be resumed.',
        ),
      dialect: z
        .enum(['openai', 'anthropic', 'ai-sdk'])
        .exactOptional()
        .describe('For llm. Default: as paths end, /chat/completions, /responses or /messages.'),
      affinity: z
        .union([
          z.strictObject({ header: fieldPath.describe('Name of a header.') }),
          z.strictObject({ body: fieldPath.describe('Field of the JSON body, such as metadata.chat.') }),
        ])
        .exactOptional()
        .describe(
          'For llm: requests with the same value go to the same server while that is fair, for the sake of its prompt cache. Default: none, to the one with the fewest streams.',
        ),
      mode: z
        .enum(['attached', 'durable'])
        .exactOptional()
        .describe(
          'For llm. attached (default): a client that disconnects ends the generation. durable: it goes on. X-Run-Mode of a request comes first.',
        ),
    }),
  )
  .max(routesMax)
  .default([])
  .describe('Which paths go to which pool; the first that fits. /ws, /sse and /socket.io/ follow.')
