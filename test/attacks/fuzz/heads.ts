import type { Random } from '../../support/random.ts'
import { handshake } from '../wire.ts'
import type { Fuzzer } from './fuzzer.ts'
import { HttpLane, inLanes } from './lanes.ts'
import { mutate, mutateText } from './mutate.ts'

const local = 'Host: 127.0.0.1'
const samples = [
  handshake('/ws'),
  handshake('/ws?a=b&c=%20', [
    'Origin: http://127.0.0.1',
    'Cookie: a=b; c="d"',
    'Sec-WebSocket-Protocol: a, b',
  ]),
  handshake('/ws', ['Sec-WebSocket-Protocol: evenkeel.v1', 'Sec-WebSocket-Extensions: permessage-deflate']),
  handshake('/socket.io/?EIO=4&transport=websocket'),
  handshake('/legacy/x'),
  `GET /engine.io/?EIO=4&transport=polling&t=x HTTP/1.1\r\n${local}\r\n\r\n`,
  `GET /socket.io/?EIO=4&transport=polling&sid=abcdefgh.abcdefghabcdefghabcdefgh HTTP/1.1\r\n${local}\r\n\r\n`,
  `GET /sse HTTP/1.1\r\n${local}\r\nAccept: text/event-stream\r\nLast-Event-ID: AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.1.abcdef.e-1\r\n\r\n`,
  `OPTIONS /sse/x HTTP/1.1\r\n${local}\r\nOrigin: http://127.0.0.1\r\nAccess-Control-Request-Method: POST\r\n\r\n`,
  `POST /runs HTTP/1.1\r\n${local}\r\nContent-Type: application/json\r\nContent-Length: 26\r\nIdempotency-Key: k\r\n\r\n{"name":"chat","body":"x"}`,
  `POST /sse/v1 HTTP/1.1\r\n${local}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nh{}\r\n0\r\n\r\n`,
  `GET /runs/x/events?after=1-2 HTTP/1.1\r\n${local}\r\nLast-Event-ID: 1-3\r\n\r\n`,
  `GET /healthz HTTP/1.1\r\n${local}\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for="[::1]";proto=https\r\n\r\n`,
].map((text) => Buffer.from(text))

/** Half of a head would only be waited for. */
const end = Buffer.from('\r\n\r\n')
/** Requests that are answered and leave the connection as it is, whatever their words are. */
const patient = [
  '/healthz',
  '/runs/x/events?after=1-2',
  '/sse/x',
  '/engine.io/?EIO=4&transport=polling&sid=a.b',
  '/readyz',
  '/legacy/x',
]
const words = [
  '127.0.0.1',
  'text/event-stream',
  'http://127.0.0.1',
  'a=b; c="d"',
  'for="[::1]";proto=https',
  'Bearer x',
  '1-2',
  'permessage-deflate',
]
const names = [
  'Origin',
  'Cookie',
  'Forwarded',
  'X-Forwarded-For',
  'Authorization',
  'Last-Event-ID',
  'Accept',
  'X-Evenkeel-Origin',
  '__proto__',
]
const batch = 8

export const headFuzzer: Fuzzer = {
  name: 'HTTP heads',
  run: ({ publicPort }, random, count) =>
    inLanes(24, count, async () => {
      const lane = new HttpLane(publicPort)
      const inputs = Array.from({ length: batch }, () => patientHead(random))
      // What may end the connection comes last.
      const last = mutate(random, random.pick(samples), samples)
      const seen = await lane.send([...inputs, last.includes(end) ? last : Buffer.concat([last, end])])
      lane.drop()
      return Math.max(1, seen)
    }),
}

function patientHead(random: Random): Buffer {
  const say = (text: string) => mutateText(random, text, words).replace(/[^\x20-\x7e]/g, '_')
  const path = say(random.pick(patient)).replaceAll(' ', '_')
  const headers = random.sample(names, 3).map((name) => `${name}: ${say(random.pick(words))}`)
  return Buffer.from(
    `GET ${path.startsWith('/') ? path : `/${path}`} HTTP/1.1\r\n${[local, ...headers].join('\r\n')}\r\n\r\n`,
  )
}
