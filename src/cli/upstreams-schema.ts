import { z } from 'zod'
import { poolBalanceShape } from './balance-schema.ts'
import { timerMsMax } from './choices.ts'

const upstreamsMax = 1_000

const weight = z.number().positive().max(1_000_000)

const url = z
  .string()
  .regex(/^(?:https?|tcp):\/\/[^\s/?#@]+\/?$/)
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
    scheme: z.enum(['http', 'https', 'tcp']).default('http'),
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
  of: z
    .enum(['nodes', 'upstreams'])
    .exactOptional()
    .describe(
      'Who serves it. Default: nodes where a route of their protocols leads to it, and for the pool that serves by default; otherwise upstreams.',
    ),
  upstreams: z.array(upstream).max(upstreamsMax).default([]).describe('Servers that are known by URL.'),
  dns: dns.exactOptional(),
  migrate: z
    .enum(['drain', 'redial'])
    .default('drain')
    .describe(
      'drain: sessions stay with their upstream until they end. redial: they move by a new connection to another one.',
    ),
  proxyProtocol: z
    .enum(['off', 'v1', 'v2'])
    .exactOptional()
    .describe(
      'Default: off. v1, v2: connections to its upstreams begin with a PROXY protocol header that names the client; requests are then sent over a connection each.',
    ),
  probe,
  allowedAddresses: z
    .array(z.string().min(1).max(64))
    .min(1)
    .exactOptional()
    .describe('CIDR blocks that upstreams may be in. Default: all but those that are never an upstream.'),
  ...poolBalanceShape,
})

/** Pools by name. The keys are part of cookie names and metrics. */
export const poolsSchema = z
  .record(z.string().regex(/^[A-Za-z0-9._-]{1,64}$/), pool)
  .default({})
  .describe('Pools by name: those of servers that cannot be changed, and how any pool is balanced.')
