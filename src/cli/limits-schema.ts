import { z } from 'zod'
import { parseBlock } from '../core/net/address.ts'
import { timerMsMax } from './choices.ts'

const listedMost = 10_000

const count = z.int().min(1).max(timerMsMax)

const rate = z.strictObject({
  perSecond: z.number().min(0.01).max(1_000_000),
  burst: z
    .int()
    .min(1)
    .max(1_000_000)
    .exactOptional()
    .describe('So many at once after a quiet time. Default: twice perSecond.'),
})

const connections = count
  .exactOptional()
  .describe('Client connections and streams at once. Default: no limit.')
const newConnections = rate.exactOptional().describe('New client connections and streams. Default: no limit.')
const requests = rate.exactOptional().describe('Requests, such as posts and runs. Default: no limit.')
const messages = rate.exactOptional().describe('Messages of clients. Default: no limit.')

function scope(description: string) {
  return z
    .strictObject({ connections, newConnections, requests, messages })
    .prefault({})
    .describe(description)
}

const blocks = z
  .array(
    z
      .string()
      .max(64)
      .refine((text) => parseBlock(text) !== null, 'expected an address or a CIDR block')
      .meta({ examples: ['10.0.0.0/8', '2001:db8::/32'] }),
  )
  .max(listedMost)
  .default([])

/** docs/limits.md */
export const rateLimitsSchema = z
  .strictObject({
    gateway: z
      .strictObject({ connections, newConnections })
      .prefault({})
      .describe('Of all clients of this gateway together; those beyond get 503.'),
    perIp: scope('Of each address of clients; of IPv6, of each /64.'),
    perUser: scope('Of each user that a token names. Rates hold over all gateways that share a Redis.'),
    perRoute: scope('Of each route, and of /ws, /sse, /socket.io/, /engine.io/ and /runs.'),
    perConnection: z.strictObject({ messages }).prefault({}),
    patienceMs: z
      .int()
      .min(0)
      .max(timerMsMax)
      .default(10_000)
      .describe(
        'A WebSocket client that sends too fast is held back for so long; then it is closed with 4029.',
      ),
    deny: blocks.describe('Addresses, as CIDR blocks, that may not connect.'),
    exempt: blocks.describe(
      'Addresses, as CIDR blocks, that are not limited, such as those of proxies in front.',
    ),
  })
  .prefault({})
  .describe('What clients may ask for. Beyond it: 429, or 503 for what all of them ask for together.')

const share = z.number().min(0.1).max(1)

/** docs/limits.md */
export const overloadSchema = z
  .strictObject({
    enabled: z.boolean().default(true).describe('false: new work is never refused because of the load.'),
    maxLagMs: count.default(500).describe('New work is refused while the event loop is this late …'),
    maxMemoryBytes: z
      .int()
      .min(1)
      .exactOptional()
      .describe(
        '… or the process has this much memory (default: 85 % of what its cgroup grants each worker) …',
      ),
    maxHeapShare: share.default(0.85).describe('… or this part of the largest heap is in use …'),
    maxDescriptorShare: share.default(0.9).describe('… or this part of the file descriptors.'),
    seconds: z.int().min(1).max(600).default(3).describe('For so long in a row.'),
    recoverSeconds: z
      .int()
      .min(1)
      .max(600)
      .default(5)
      .describe('So long it must be well below them before new work is taken again.'),
  })
  .prefault({})
  .describe('What a gateway bears. Beyond it new work gets 503, and what is there goes on.')
