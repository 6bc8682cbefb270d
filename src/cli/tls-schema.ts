import { z } from 'zod'
import { serverNamePattern } from '../core/net/server-names.ts'
import { timerMsMax } from './choices.ts'

const file = z.string().min(1).max(4096)

const certificate = z.strictObject({
  certFile: file.describe('PEM: the certificate, and behind it those that lead to its root.'),
  keyFile: file.describe('PEM, without a passphrase.'),
  names: z
    .array(
      z
        .string()
        .max(253)
        .regex(serverNamePattern)
        .meta({ examples: ['*.example.com'] }),
    )
    .min(1)
    .exactOptional()
    .describe('Server names that it is for; *. in front stands for one label. Default: those in it.'),
})

/** TLS at a listener. */
export const tlsSchema = z
  .strictObject({
    certificates: z
      .array(certificate)
      .min(1)
      .max(1_000)
      .describe('The first one is for clients that ask for no name, or for one that is in none.'),
    minVersion: z.enum(['TLSv1.2', 'TLSv1.3']).default('TLSv1.2'),
    reloadMs: z
      .int()
      .min(0)
      .max(timerMsMax)
      .default(5_000)
      .describe('Milliseconds between looks at the files. 0: they are read at start only.'),
  })
  .describe('Default: none.')
