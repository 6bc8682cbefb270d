import { z } from 'zod'
import { routeProtocols } from '../core/route/match.ts'

const routesMax = 1_000
const splitMax = 16
const runPoolsMax = 64

const fieldPath = z.string().regex(/^[\x21-\x7e]{1,128}$/)
const value = z.string().max(1_024)
/** Of headers and cookies, as in RFC 9110. */
const token = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/)
const anyName = z.string().min(1).max(128)
export const poolName = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/)

const condition = z.union([
  value,
  z.strictObject({ equals: value }),
  z.strictObject({ prefix: value }),
  z.strictObject({ present: z.boolean() }),
])

const conditionsShape = {
  headers: z
    .record(token, condition)
    .exactOptional()
    .describe('By name: a text that the value equals, {equals}, {prefix} or {present}.'),
  cookies: z.record(token, condition).exactOptional(),
  query: z.record(anyName, condition).exactOptional(),
  claims: z
    .record(anyName, condition)
    .exactOptional()
    .describe(
      'Of the token that a client was identified by. Of lists one entry has to fit; a.b is a field of a field.',
    ),
}

const split = z.strictObject({
  pool: poolName,
  percent: z.number().min(0).max(100).describe('Of all clients of the route.'),
  force: z
    .strictObject(conditionsShape)
    .exactOptional()
    .describe('A client that shows one of these is served by this pool, whatever the percentage.'),
})

const sticky = z
  .strictObject({
    by: z
      .enum(['cookie', 'header', 'claim', 'ip'])
      .describe('What a client is known by. cookie: the gateway sets it where there is none.'),
    name: z
      .string()
      .regex(/^[\x21-\x7e]{1,128}$/)
      .exactOptional()
      .describe('Of the cookie (default evenkeel-client), the header or the claim.'),
    seed: z
      .string()
      .max(64)
      .exactOptional()
      .describe('Routes with the same seed give a client the same part; another seed draws lots anew.'),
  })
  .describe(
    'How a client keeps its part of a split. Who shows nothing stays with the pool of the route. Default: by cookie.',
  )

const affinity = z.union([
  z.strictObject({ header: fieldPath.describe('Name of a header.') }),
  z.strictObject({ cookie: token.describe('Name of a cookie.') }),
  z.strictObject({ query: fieldPath.describe('Name of a query parameter.') }),
  z.strictObject({ claim: fieldPath.describe('Claim of the token.') }),
  z.strictObject({ ip: z.literal(true) }),
  z.strictObject({ body: fieldPath.describe('For llm: field of the JSON body, such as metadata.chat.') }),
])

const route = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/)
    .exactOptional()
    .describe('For operators, who can switch its pool by it.'),
  path: z
    .string()
    .regex(/^\/[^\s?#*]{0,254}\*?$/)
    .describe('A path, or with * at its end all that begin so.')
    .meta({ examples: ['/legacy/*'] }),
  host: z
    .string()
    .regex(/^(\*\.)?[A-Za-z0-9._[\]:-]{1,253}$/)
    .exactOptional()
    .describe('A host name, or with *. before it all below it. Ports do not count.'),
  methods: z
    .array(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']))
    .min(1)
    .exactOptional(),
  ...conditionsShape,
  pool: z.string().min(1).max(64).describe('Who serves it, but for those that split gives to others.'),
  split: z
    .array(split)
    .min(1)
    .max(splitMax)
    .exactOptional()
    .describe('Parts of the clients that other pools serve: a canary, or A/B.'),
  sticky: sticky.exactOptional(),
  runPools: z
    .array(poolName)
    .min(1)
    .max(runPoolsMax)
    .exactOptional()
    .describe(
      'Pools, beside their own, whose runs its clients may start (pool of POST /runs and of run()). Default: none.',
    ),
  protocol: z
    .enum(routeProtocols)
    .exactOptional()
    .describe(
      'http: to upstreams. llm: to language models, upstreams too; what they stream is logged as runs and can be resumed. All others: to nodes. Default: of a default path that leads to nodes its own, otherwise http.',
    ),
  dialect: z
    .enum(['openai', 'anthropic', 'ai-sdk'])
    .exactOptional()
    .describe('For llm. Default: as paths end, /chat/completions, /responses or /messages.'),
  affinity: affinity
    .exactOptional()
    .describe(
      'For llm, header or body: requests with the same value go to the same server while that is fair, for the sake of its prompt cache. Otherwise: what the policy key-hash of the pool hashes. Default: nothing, or what the pool says.',
    ),
  auth: z
    .enum(['required', 'optional', 'none'])
    .exactOptional()
    .describe(
      'Whether clients must show a token. none: what they show is not looked at, and goes on to the pool. Default: auth.jwt.required.',
    ),
  mode: z
    .enum(['attached', 'durable'])
    .exactOptional()
    .describe(
      'For llm. attached (default): a client that disconnects ends the generation. durable: it goes on. X-Run-Mode of a request comes first.',
    ),
})

export const routesSchema = z
  .array(route)
  .max(routesMax)
  .default([])
  .describe(
    'Which requests go to which pool; the first that fits. /ws, /sse, /socket.io/, /engine.io/ and /runs follow.',
  )
