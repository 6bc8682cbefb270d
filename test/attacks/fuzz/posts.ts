import type { Random } from '../../support/random.ts'
import { openStream } from '../wire.ts'
import type { Fuzzer } from './fuzzer.ts'
import { HttpLane, inLanes } from './lanes.ts'
import { mutateText } from './mutate.ts'

const bodies = [
  'hello',
  '{"a":[1,2,{"b":null}]}',
  'event: evil\r\n\r\ndata: x',
  'h{"resume":{"session":"AAAAAAAAAAAAAAAAAAAAAA","token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","out":3,"channels":{"a":"e-1"}}}',
  '\0\u0005\0\0\0mhello\u0001\u0002\0\0\0m\0',
  '{"name":"chat","body":{"x":[1]},"pool":"default","mode":"attached"}',
  '42["event",{"x":1}]\x1e4hello\x1ebAAEC\x1e2\x1e1',
]
const batch = 8
const keys = ['', 'key', 'k'.repeat(255)]

/** What a head cannot carry would be a matter for the fuzzer of heads. */
const headText = (text: string) => text.replace(/[^\x20-\x7e]/g, '_')

/** Requests that are well-formed as HTTP and hostile in all that they say. */
export const postFuzzer: Fuzzer = {
  name: 'SSE posts',
  async run(target, random, count) {
    const lanes = await Promise.all(
      Array.from({ length: 12 }, async () => ({
        http: new HttpLane(target.publicPort),
        ...(await openStream(target)),
      })),
    )
    const taken = await inLanes(lanes.length, count, async (lane) => {
      const { http, stream, session, token } = lanes[lane]!
      // Echoes are not looked at.
      stream.received = Buffer.alloc(0)
      const inputs = Array.from({ length: batch }, () => hostilePost(random, session, token))
      return Math.max(1, await http.send(inputs))
    })
    for (const { http, stream } of lanes) {
      http.drop()
      stream.drop()
    }
    return taken
  },
}

function hostilePost(random: Random, session: string, token: string): Buffer {
  const hurt = (text: string) =>
    random.chance(0.15) ? headText(mutateText(random, text, [session, token])) : text
  const own = `/sse/${session}`
  const paths = [
    own,
    own,
    own,
    hurt(own),
    `/sse/v1/${hurt(session)}`,
    '/runs',
    '/engine.io/?EIO=4&transport=polling&sid=x',
  ]
  const body = Buffer.from(mutateText(random, random.pick(bodies), bodies))
  const isDelete = random.chance(0.02)
  const head = [
    `${isDelete ? 'DELETE' : 'POST'} ${(isDelete ? '/sse/nobody' : random.pick(paths)).replaceAll(' ', '_')} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: ${hurt('Bearer')} ${hurt(token)}`,
    `Content-Type: ${hurt(random.pick(['text/plain', 'application/json', 'application/octet-stream']))}`,
    `Idempotency-Key: ${hurt(random.pick(keys))}${random.chance(0.5) ? random.int(0, 1_000) : ''}`,
    `Content-Length: ${body.length}`,
  ]
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body])
}
