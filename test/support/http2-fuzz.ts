import { once } from 'node:events'
import type { Random } from './random.ts'
import { literal, RawHttp2 } from './tls.ts'

const names = [
  ':method',
  ':path',
  ':authority',
  ':scheme',
  ':protocol',
  'host',
  'connection',
  'te',
  'cookie',
  'content-length',
  'transfer-encoding',
  'x',
]
const values = [
  'GET',
  'POST',
  'CONNECT',
  'HEAD',
  '/',
  '/sse',
  '/healthz',
  '/runs',
  '*',
  '',
  'localhost',
  'https',
  '5',
  '-1',
  'chunked',
  'trailers',
  'a\r\nb: c',
  '\0',
  'x'.repeat(300),
]

/** One connection on which frames come that nobody would send, some of them nearly right. Resolves when it is over. */
export async function fuzzHttp2(port: number, random: Random, frames: number): Promise<void> {
  const raw = await RawHttp2.connect(port)
  raw.socket.on('error', () => {})
  raw.socket.resume()
  let stream = 1
  for (let i = 0; i < frames && !raw.socket.destroyed; i++) {
    const kind = random.int(0, 5)
    if (kind <= 1) {
      const block = Buffer.concat(
        Array.from({ length: random.int(0, 6) }, () => literal(random.pick(names), random.pick(values))),
      )
      const good = Buffer.concat([
        literal(':method', random.pick(['GET', 'POST'])),
        literal(':scheme', 'https'),
        literal(':path', random.pick(['/sse', '/healthz', '/sse/x', '/engine.io/?EIO=4&transport=polling'])),
        literal(':authority', 'localhost'),
      ])
      raw.frame(1, random.pick([0, 1, 4, 4, 5, 5]), stream, kind === 0 ? Buffer.concat([good, block]) : block)
    } else if (kind === 2)
      raw.frame(0, random.int(0, 1), random.int(1, stream), bytes(random, random.int(0, 2_000)))
    else if (kind === 3) raw.reset(random.int(1, stream), random.int(0, 14))
    else
      raw.frame(
        random.int(0, 12),
        random.int(0, 255),
        random.int(0, stream),
        bytes(random, random.int(0, 40)),
      )
    if (random.chance(0.7)) stream += 2
    if (random.chance(0.3)) await new Promise(setImmediate)
  }
  if (raw.socket.destroyed) return
  const closed = once(raw.socket, 'close')
  raw.socket.end()
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 50))])
  raw.socket.destroy()
}

function bytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.int(0, 255)))
}
