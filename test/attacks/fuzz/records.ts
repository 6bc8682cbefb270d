import { RecordFlag, RecordType } from '../../../src/protocol/link-records.ts'
import { encodeRecord, json, type RecordKind, u32s } from '../../support/link-wire.ts'
import type { Random } from '../../support/random.ts'
import { linkNode } from '../inside.ts'
import { frame, openSocket, type RawConnection, type Target } from '../wire.ts'
import type { Fuzzer } from './fuzzer.ts'
import { inLanes } from './lanes.ts'
import { mutate } from './mutate.ts'

/** Bodies of what nodes send, as they are meant. */
const samples: readonly [RecordKind, Buffer][] = [
  [
    'hello',
    json({
      protocol: 1,
      id: 'x',
      instance: 'instance-of-x',
      pool: 'default',
      weight: 1,
      maxSessions: null,
      host: 'h',
      pid: 1,
      version: '',
    }),
  ],
  [
    'report',
    json({
      gateways: { g: 1 },
      eventLoopLagMs: 0,
      weight: 1,
      drain: null,
      steered: 0,
      runs: { chat: { g: 1 } },
      load: 1,
    }),
  ],
  ['publish', Buffer.from('\x04\0roomhello')],
  ['subscribe', Buffer.from('room')],
  ['unsubscribe', Buffer.from('room')],
  ['found', json({ seek: 1, term: 2, live: true })],
  [
    'cast',
    Buffer.concat([
      u32s([1, 40]),
      Buffer.from('{"scope":"/","rooms":["a"],"except":["b"]}'.slice(0, 40)),
      Buffer.from('hello'),
    ]),
  ],
  ['tell', Buffer.from('\x04\0goodhello')],
  ['ready', Buffer.alloc(0)],
  ['refused', json({ code: 'FULL', message: 'x', attempt: 1, out: 0 })],
  ['fin', u32s([2])],
  ['kept', u32s([1])],
  [
    'taken',
    Buffer.concat([
      u32s([0, 50]),
      json({ meta: { id: 'x' }, channels: [], received: 0, keys: [['k', 1]] }),
      json({ a: 1 }),
    ]),
  ],
  ['lost', Buffer.alloc(0)],
  ['output', u32s([1], 'hello')],
  ['commit', u32s([0], '{"count":1}')],
  ['close', Buffer.from([0xe8, 0x03, 0x78])],
  ['closed', Buffer.alloc(0)],
  ['join', Buffer.from('room')],
  ['leave', Buffer.from('room')],
  ['rooms', json({ scope: '/', join: ['a', 1], leave: [] })],
  ['continued', json({ tier: 'soft', cause: 'migration' })],
  ['append', Buffer.concat([u32s([1]), json(['text', { part: 0, kind: 'text', data: 'x' }])])],
  ['end', Buffer.concat([u32s([1]), json({ type: 'end', usage: {} })])],
  ['attach', json({ run: 'x', name: 'chat' })],
  ['decline', Buffer.alloc(0)],
  ['pong', u32s([1])],
]
const bodies = samples.map(([, body]) => body)
const flags = Object.values(RecordFlag)
/** Records on one link; each has a PING behind it, whose PONG says that it was looked at. */
const batch = 40

/** As a node that has its token and misbehaves. It is heavy, so that all new sessions are given to it. */
export const recordFuzzer: Fuzzer = {
  name: 'link records',
  run: (target, random, count) => inLanes(6, count, () => tryLink(target, random)),
}

async function tryLink(target: Target, random: Random): Promise<number> {
  const link = await linkNode(target, {
    pool: 'default',
    weight: 1_000_000,
    runs: [{ name: 'chat', concurrency: 4, onLoss: 'restart' }],
  })
  const victims: RawConnection[] = []
  try {
    if (random.chance(0.3)) victims.push(...(await newVictims(target, random)))
    const sessions = victims.length === 0 ? [] : await sessionsOf(link)
    const messages = Array.from({ length: batch }, () => {
      const record = hostileRecord(random, sessions)
      return Buffer.concat([frame(record, 0x82), frame(encodeRecord('ping', { body: u32s([1]) }), 0x82)])
    })
    link.write(Buffer.concat(messages))
    return await seen(link)
  } finally {
    link.drop()
    for (const victim of victims) victim.drop()
  }
}

async function newVictims({ publicPort }: Target, random: Random): Promise<RawConnection[]> {
  const plain = await openSocket(publicPort)
  plain.write(frame('1'))
  if (random.chance(0.5)) return [plain]
  const resumable = await openSocket(publicPort, '/ws', ['Sec-WebSocket-Protocol: evenkeel.v1'])
  resumable.write(frame('h{}'))
  return [plain, resumable]
}

/** Numbers and terms of what was opened here. */
async function sessionsOf(link: RawConnection): Promise<[number, number][]> {
  const found: [number, number][] = []
  while (found.length === 0) {
    const next = await link.frame(200).catch(() => null)
    if (next === null) break
    for (let at = 0; at + 14 <= next.payload.length; at += 4 + next.payload.readUInt32LE(at))
      if (next.payload[at + 4] === RecordType.open)
        found.push([next.payload.readUInt32LE(at + 6), next.payload.readUInt32LE(at + 10)])
  }
  return found
}

function hostileRecord(random: Random, sessions: readonly [number, number][]): Buffer {
  const [kind, body] = random.pick(samples)
  const isLinkRecord = RecordType[kind] < 0x10 || (RecordType[kind] >= 0x40 && RecordType[kind] < 0x50)
  const known: [number, number] =
    sessions.length > 0 && random.chance(0.8) ? random.pick(sessions) : [random.int(1, 40), random.int(0, 3)]
  const [session, term] = isLinkRecord ? [0, 0] : known
  const record = encodeRecord(kind, {
    flags: random.chance(0.4) ? random.pick(flags) : RecordFlag.text,
    session,
    term,
    body: random.chance(0.15) ? mutate(random, body, bodies) : body,
  })
  return random.chance(0.05) ? mutate(random, record, bodies) : record
}

/** PONGs that come, and the record that ended the link. */
async function seen(link: RawConnection): Promise<number> {
  let pongs = 0
  while (pongs < batch) {
    const next = await link.frame(250).catch(() => null)
    if (next === null || next.opcode === 8) return pongs + 1
    for (let at = 0; at + 14 <= next.payload.length; at += 4 + next.payload.readUInt32LE(at))
      if (next.payload[at + 4] === RecordType.pong) pongs++
  }
  return pongs
}
