import { z } from 'zod'
import { serverNamePattern } from '../core/route/server-name.ts'
import { timerMsMax } from './choices.ts'
import { proxyProtocolShape } from './proxy-protocol.ts'

const listenersMax = 256
const pool = z.string().min(1).max(64)

/** Listeners for any protocol over TCP. */
export const tcpSchema = z
  .array(
    z.strictObject({
      host: z.string().min(1).max(255).default('0.0.0.0').describe('Address to listen on.'),
      port: z.int().min(0).max(65_535).describe('0 takes any free port.'),
      pool: pool
        .exactOptional()
        .describe('One of pools, with upstreams. Without it sni says which; others are cut.'),
      sni: z
        .record(z.string().regex(serverNamePattern), pool)
        .exactOptional()
        .describe(
          'Pools by the server name that a TLS client asks for: a.example, or *.example for all that end so. TLS goes through as it is.',
        )
        .meta({ examples: [{ 'a.example': 'a', '*.example': 'others' }] }),
      idleMs: z
        .int()
        .min(1_000)
        .max(timerMsMax)
        .default(3_600_000)
        .describe('Connections over which nothing has moved for so long are cut.'),
      maxConnections: z
        .int()
        .min(1)
        .max(1_000_000)
        .exactOptional()
        .describe('Connections at once; those beyond it are cut. Default: any number.'),
      ...proxyProtocolShape,
    }),
  )
  .max(listenersMax)
  .default([])
  .describe('Listeners that connect clients to upstreams byte for byte, whatever they speak.')
