import { z } from 'zod'
import { type JsonSchema, toJsonSchema } from '../admin/validation.ts'
import { historySizeMax } from '../core/channel/history-rules.ts'
import { defaultLimits, type Limits } from '../protocol/limits.ts'
import { authSchema, channelPermissionsSchema } from './auth-schema.ts'
import { hashKeySchema, loadShape, policySchema, slowStartSchema } from './balance-schema.ts'
import { logLevels, timerMsMax, workersMax } from './choices.ts'
import { edgeShape } from './edge-schema.ts'
import { overloadSchema, rateLimitsSchema } from './limits-schema.ts'
import { proxyProtocolShape } from './proxy-protocol.ts'
import { routesSchema } from './routes-schema.ts'
import { tcpSchema } from './tcp-schema.ts'
import { tlsSchema } from './tls-schema.ts'
import { tracingSchema } from './tracing-schema.ts'
import { poolsSchema } from './upstreams-schema.ts'

export type { LogLevel, PolicyName } from './choices.ts'

const port = z.int().min(0).max(65_535)
const text = z.string().min(1).max(255)
const origin = z
  .string()
  .regex(/^https?:\/\/[^\s/?#@*]+$/)
  .refine((text) => URL.canParse(text))
  // As browsers send it: lower case, no default port.
  .overwrite((text) => URL.parse(text)?.origin ?? text)
  .meta({ examples: ['https://app.example.com'] })

const historyRule = z.strictObject({
  match: text.describe("A channel's name; * stands for any text."),
  size: z.int().min(1).max(historySizeMax).default(100).describe('Messages that are kept of each channel.'),
  ttlMs: z
    .int()
    .min(1_000)
    .max(timerMsMax)
    .default(300_000)
    .describe('They are forgotten this long after the last one.'),
})

const limitsThatMayBeZero: ReadonlySet<string> = new Set([
  'waitForNodeMs',
  'migrationsPerSecond',
  'runCoalesceMs',
])

function limitsShape(): Record<keyof Limits, z.ZodDefault<z.ZodInt>> {
  const fields = Object.entries(defaultLimits).map(([name, value]) => {
    const lowest = limitsThatMayBeZero.has(name) ? 0 : 1
    return [name, z.int().min(lowest).max(timerMsMax).default(value)]
  })
  return Object.fromEntries(fields)
}

function listenerShape(host: string, defaultPort: number) {
  return {
    host: text.default(host).describe('Address to listen on.'),
    port: port.default(defaultPort).describe('0 takes any free port.'),
    tls: tlsSchema.exactOptional(),
  }
}

/** The configuration file. Every key is optional; the defaults run a gateway on one machine. */
export const configSchema = z.strictObject({
  $schema: z.string().exactOptional().describe('For editors; the gateway ignores it.'),
  public: z
    .strictObject({ ...listenerShape('0.0.0.0', 8080), ...proxyProtocolShape })
    .prefault({})
    .describe('Where clients connect.'),
  internal: z
    .strictObject(listenerShape('127.0.0.1', 8081))
    .prefault({})
    .describe('Links of nodes, admin API, metrics and health.'),
  redis: text
    .exactOptional()
    .describe(
      'redis: or rediss: URL that all gateways and nodes of the cluster share. Default: one gateway by itself.',
    ),
  internalUrl: text
    .exactOptional()
    .describe('How nodes and other gateways reach the internal listener. Default: its address and port.'),
  gatewayId: text
    .exactOptional()
    .describe('Default: made up at start. Of several workers each adds its number, from 1.'),
  workers: z
    .int()
    .min(1)
    .max(workersMax)
    .default(1)
    .describe(
      'Processes that share the public port; each is a gateway with an internal port of its own, counted up.',
    ),
  policy: policySchema.default('weighted-least-connections').describe('How a new session finds its node.'),
  hashKey: hashKeySchema.exactOptional(),
  slowStartMs: slowStartSchema.default(0),
  persistence: z
    .strictObject({
      by: z
        .enum(['none', 'cookie', 'header', 'ip'])
        .default('none')
        .describe('How a client that returns is told, so that it gets the node that it had.'),
      name: z
        .string()
        .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/)
        .default('evenkeel-node')
        .describe('Name of the cookie or the header.'),
      ttlMs: z
        .int()
        .min(1_000)
        .max(timerMsMax)
        .default(3_600_000)
        .describe('A client that returns later is as a new one.'),
      maxOverShare: z
        .number()
        .min(0)
        .max(1_000)
        .default(0.25)
        .describe('A node that is farther above its fair share, relative to it, gets no returning clients.'),
      secretFile: text
        .exactOptional()
        .describe(
          'File with the secret that signs cookies and headers, the same at all gateways. Default: made of the node token.',
        ),
    })
    .prefault({})
    .describe('Whether a client that returns gets the node that it had.'),
  pool: text
    .default('default')
    .describe('The pool of nodes that serves clients where no route says otherwise.'),
  pools: poolsSchema,
  routes: routesSchema,
  tcp: tcpSchema,
  auth: authSchema.exactOptional(),
  allowedOrigins: z
    .union([z.literal('same-host'), z.literal('*'), z.array(origin).min(1)])
    .default('same-host')
    .describe('Origins of the web pages that may connect; clients without an Origin always may.'),
  ...edgeShape,
  slowConsumer: z
    .enum(['close', 'drop', 'coalesce'])
    .default('close')
    .describe('What happens to a client that does not read what its channels get.'),
  channels: z
    .strictObject({
      history: z
        .array(historyRule)
        .default([])
        .describe(
          'Which channels have a history; the first rule that matches counts. The same at all gateways.',
        ),
      permissions: channelPermissionsSchema
        .exactOptional()
        .describe(
          'Which channels clients of evenkeel.v1 may join and publish to by themselves. Default: none. Nodes may use all.',
        ),
    })
    .prefault({}),
  rebalance: z
    .strictObject({
      enabled: z.boolean().default(true).describe('false: only on request.'),
      intervalMs: z
        .int()
        .min(0)
        .max(timerMsMax)
        .default(10_000)
        .describe('Milliseconds between rounds. 0: only on events and on request.'),
      tolerance: z
        .number()
        .min(0)
        .max(1)
        .default(0.03)
        .describe('Relative distance from the fair share that is left alone.'),
      ...loadShape,
      maxMovesPerRound: z.int().min(1).max(timerMsMax).exactOptional().describe('Default: no cap.'),
    })
    .prefault({}),
  limits: z
    .strictObject(limitsShape())
    .prefault({})
    .describe('Bounds and time-outs; the last word of a name is its unit.'),
  rateLimits: rateLimitsSchema,
  overload: overloadSchema,
  tracing: tracingSchema,
  log: z.strictObject({ level: z.enum(logLevels).default('info') }).prefault({}),
  nodeTokenFile: text.exactOptional().describe('File with the token that nodes present.'),
  adminTokenFile: text.exactOptional().describe('File with the token that operators present.'),
})

type ConfigFile = z.output<typeof configSchema>

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T

/** The configuration that a gateway runs with: complete and frozen. */
export type GatewayConfig = DeepReadonly<
  Omit<ConfigFile, '$schema' | 'nodeTokenFile' | 'adminTokenFile' | 'limits'> & { limits: Limits }
>

/** Secrets stay outside the configuration, so that printing it never shows them. */
export interface GatewayTokens {
  /** null: links are accepted without a token. */
  readonly nodeToken: string | null
  /** null: operators are not asked for a token. */
  readonly adminToken: string | null
  /** What signs the persistence of sessions. Absent: the node token; without one too, each gateway makes its own. */
  readonly persistenceSecret?: string
  /** What the files of `auth.jwt.keys` hold, in that order. */
  readonly authKeys?: readonly string[]
}

/** JSON Schema (draft 7) of the configuration file, for editors. */
export function configJsonSchema(): JsonSchema & { title: string } {
  return { title: 'Evenkeel gateway configuration', ...toJsonSchema(configSchema) }
}
