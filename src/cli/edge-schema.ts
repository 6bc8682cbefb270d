import { z } from 'zod'
import { blockPattern } from '../core/net/address.ts'

const deflate = z
  .strictObject({
    threshold: z
      .int()
      .min(0)
      .max(1024 * 1024)
      .default(1024)
      .describe('Bytes; shorter messages to clients are not compressed.'),
    windowBits: z
      .int()
      .min(9)
      .max(15)
      .default(13)
      .describe('Of how much a compressor looks back, as a power of 2.'),
    memoryLevel: z.int().min(1).max(9).default(7).describe('What a compressor may use of memory.'),
    concurrency: z
      .int()
      .min(1)
      .max(256)
      .default(4)
      .describe('Messages of clients that are inflated at once.'),
    noContextTakeover: z
      .boolean()
      .default(true)
      .describe(
        'false: clients may compress by what they sent before, which keeps an inflater for each connection.',
      ),
  })
  .prefault({})

/** What holds for requests of clients, whatever they ask for. */
export const edgeShape = {
  trustedProxies: z
    .array(
      z
        .string()
        .regex(blockPattern)
        .meta({ examples: ['10.0.0.0/8', '127.0.0.1'] }),
    )
    .max(1_000)
    .default([])
    .describe(
      'Proxies in front, as addresses or CIDR blocks. What they say of the client in Forwarded or X-Forwarded-For is believed; that of all others is dropped.',
    ),
  forwardedHeader: z
    .enum(['any', 'forwarded', 'x-forwarded'])
    .default('any')
    .describe(
      'What trusted proxies write. any: X-Forwarded-For if it is there, else Forwarded. Name it when they pass on the other one from clients.',
    ),
  websocket: z
    .strictObject({
      deflate: z
        .union([z.literal('off'), deflate])
        .default('off')
        .describe('Compression of messages (permessage-deflate).'),
    })
    .prefault({}),
}
