import type { Random } from '../../support/random.ts'
import { frame, openSocket, type RawConnection, type Target } from '../wire.ts'
import type { Fuzzer } from './fuzzer.ts'
import { inLanes } from './lanes.ts'
import { mutate } from './mutate.ts'

const v1 = [
  'h{}',
  'h{"resume":{"session":"AAAAAAAAAAAAAAAAAAAAAA","token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","out":1,"channels":{"a":"e-1"}}}',
  'mhello',
  'p',
  'a1',
  's{"id":1,"name":"chat","body":{},"credit":65536}',
  't{"id":2,"run":"x","after":"1-2","credit":100}',
  'k1 100',
  'd1',
  'x1',
].map((text) => Buffer.from(text))
const engine = ['4hello', '2', '3', '5', '6', '1', 'bAAEC', '2probe'].map((text) => Buffer.from(text))
const socketIo = [
  '40',
  '40/chat,{"token":"x"}',
  '42["event",{"a":1}]',
  '421["event"]',
  '431["ack"]',
  '451-["x",{"_placeholder":true,"num":0}]',
  '41',
  '44{"message":"x"}',
].map((text) => Buffer.from(text))
const plain = ['hello', 'grüße', '{"a":1}', '\0\x01\x02'].map((text) => Buffer.from(text))

interface Dialect {
  readonly path: string
  readonly headers: readonly string[]
  readonly samples: readonly Buffer[]
  /** What is sent first, so that more than greetings is tried. */
  readonly greeting: Buffer | null
  /** What a message of the application begins with; behind it anything may follow. */
  readonly prefix: string
}

const ours = ['Sec-WebSocket-Protocol: evenkeel.v1']
const dialects: readonly Dialect[] = [
  { path: '/ws', headers: [], samples: plain, greeting: null, prefix: '' },
  { path: '/ws', headers: ours, samples: v1, greeting: frame('h{}'), prefix: 'm' },
  {
    path: '/engine.io/?EIO=4&transport=websocket',
    headers: [],
    samples: engine,
    greeting: null,
    prefix: '4',
  },
  {
    path: '/socket.io/?EIO=4&transport=websocket',
    headers: [],
    samples: [...engine, ...socketIo],
    greeting: frame('40'),
    prefix: '42["event",1]',
  },
]

const batch = 16

export const frameFuzzer: Fuzzer = {
  name: 'WebSocket frames',
  run: (target, random, count) => inLanes(24, count, () => tryConnection(target, random)),
}

async function tryConnection({ publicPort }: Target, random: Random): Promise<number> {
  const dialect = random.pick(dialects)
  const socket = await openSocket(publicPort, dialect.path, dialect.headers)
  try {
    // One in five is told nothing before.
    if (dialect.greeting !== null && random.chance(0.8)) socket.write(dialect.greeting)
    if (dialect.prefix !== '') await socket.frame().catch(() => {})
    const messages = Array.from({ length: batch }, () => tolerable(random, dialect))
    // What ends the connection comes last: a message that is none, or a frame that is none.
    const sample = random.pick(dialect.samples)
    const last = random.chance(0.5)
      ? frame(mutate(random, sample, dialect.samples), random.chance(0.8) ? 0x81 : 0x82)
      : mutate(random, frame(sample), messages)
    socket.write(Buffer.concat([...messages, last, frame('', 0x89)]))
    await ended(socket)
    return batch + 1
  } finally {
    socket.drop()
  }
}

function tolerable(random: Random, { prefix, samples }: Dialect): Buffer {
  if (prefix.endsWith(']')) return frame(prefix)
  const text = mutate(random, random.pick(samples), samples).toString()
  return frame(prefix + text)
}

/** The ping behind the input is answered, or the connection ends; or the input has swallowed it. */
async function ended(socket: RawConnection): Promise<void> {
  for (;;) {
    const next = await socket.frame(120).catch(() => null)
    if (next === null || next.opcode === 8 || next.opcode === 10) return
  }
}
