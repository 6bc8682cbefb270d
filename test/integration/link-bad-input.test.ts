import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { encodeRecord, json, type RecordKind, u32s, type WireRecord } from '../support/link-wire.ts'
import { Gate, numberedHandlers } from '../support/numbered.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { output, ScriptedNode, type ScriptedSession } from '../support/scripted-node.ts'

const seed = testSeed('link-bad-input')

interface Neighbourhood {
  gateway: TestGateway
  /** At node `good`, all the time; it must notice nothing. */
  neighbour: NumberedClient
  /** A node that will misbehave, and a client that has had three answers from it. */
  newVictim(): Promise<{ bad: ScriptedNode; victim: NumberedClient; session: ScriptedSession }>
  /** Throws when the neighbour noticed anything. */
  undisturbed(): Promise<void>
}

async function startNeighbourhood(): Promise<Neighbourhood> {
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  await startTestNode(gateway, numberedHandlers('good', new Gate(), () => {}) as never, { id: 'good' })
  const neighbour = await NumberedClient.connect(gateway.wsUrl)
  neighbour.stream(2)
  return {
    gateway,
    neighbour,
    async newVictim() {
      const bad = await ScriptedNode.link(gateway, { id: 'bad' })
      const victim = await NumberedClient.connect(gateway.wsUrl)
      victim.send(3)
      await victim.answers()
      expect(victim.replies.map(({ node }) => node)).toEqual(['bad', 'bad', 'bad'])
      return { bad, victim, session: [...bad.sessions.values()][0]! }
    },
    async undisturbed() {
      await neighbour.answers(5)
      await neighbour.finish()
      expect(neighbour.verify()).toEqual([])
      expect(new Set(neighbour.replies.map(({ node, term }) => `${node} ${term}`))).toEqual(
        new Set(['good 1']),
      )
      expect(neighbour.others).toEqual([])
    },
  }
}

/** The victim's session goes on at the good node, with every message that the bad one has not committed. */
async function expectRecovered({ victim }: { victim: NumberedClient }, name: string): Promise<void> {
  victim.send(3)
  await victim.answers()
  victim.verify()
  expect(victim.replies.at(-1), name).toMatchObject({ node: 'good', term: 2 })
  victim.ws.close()
}

const of = ({ number, term }: ScriptedSession, kind: RecordKind, fields: Partial<WireRecord> = {}) =>
  encodeRecord(kind, { session: number, term, ...fields })

const breaches: [string, (session: ScriptedSession) => Buffer | string, reason: RegExp][] = [
  ['a text message', () => 'hello', /^a link message must be binary$/],
  ['an unknown type', () => encodeRecord(0x7f, { session: 1 }), /^unknown record type 0x7f$/],
  ['type 0', () => encodeRecord(0), /^unknown record type 0x00$/],
  [
    'the other direction',
    (s) => of(s, 'message', { body: u32s([1]) }),
    /^MESSAGE does not come from a node$/,
  ],
  [
    'a second WELCOME',
    () => encodeRecord('welcome', { body: json({}) }),
    /^WELCOME does not come from a node$/,
  ],
  [
    'a CAST that is shorter than its audience',
    () => encodeRecord('cast', { body: u32s([0, 9], '{}') }),
    /^CAST: the audience/,
  ],
  [
    'a CAST without a scope',
    () => encodeRecord('cast', { body: u32s([0, 2], '{}') }),
    /^CAST.scope must be a string of 1 to 255 characters$/,
  ],
  [
    'ROOMS that are no names',
    (s) => of(s, 'rooms', { body: json({ scope: '/', join: [null] }) }),
    /^ROOMS.join must be a list of strings and numbers$/,
  ],
  [
    'a CAST with an endless once',
    () => {
      const order = JSON.stringify({ scope: '/', once: 'x'.repeat(129) })
      return encodeRecord('cast', { body: u32s([0, order.length], order) })
    },
    /^CAST.once must be a string of 1 to 128 characters$/,
  ],
  [
    'CONTINUED in no tier',
    (s) => of(s, 'continued', { body: json({ tier: 'half', cause: 'recovery' }) }),
    /^CONTINUED.tier must be one of exact, soft, close$/,
  ],
  [
    'CONTINUED without a cause',
    (s) => of(s, 'continued', { body: json({ tier: 'soft' }) }),
    /^CONTINUED.cause must be migration or recovery$/,
  ],
  [
    'a TELL that is shorter than its name',
    () => encodeRecord('tell', { body: Buffer.from([9, 0, 0x61]) }),
    /^TELL: the name/,
  ],
  ['half a record', (s) => output(s, 4, 'x').subarray(0, -1), /^length 15 does not fit the message$/],
  ['half a header', () => Buffer.alloc(5), /^a record header needs 14 bytes, 5 are left$/],
  ['a body too short', (s) => of(s, 'commit', { body: Buffer.alloc(3) }), /^COMMIT has a body of 3 bytes/],
  ['a body too long', (s) => of(s, 'ready', { body: u32s([1]) }), /^READY has a body of 4 bytes/],
  ['a reason too long', (s) => of(s, 'close', { body: Buffer.alloc(126) }), /^CLOSE has a body of 126 bytes/],
  [
    'a link record in a session',
    () => encodeRecord('ping', { session: 1, body: u32s([1]) }),
    /^PING with session 1$/,
  ],
  ['a session record without', () => encodeRecord('ready'), /^READY with session 0$/],
  [
    'a REPORT that is no JSON',
    () => encodeRecord('report', { body: Buffer.from('{}x') }),
    /^REPORT is not JSON$/,
  ],
  [
    'a bad REPORT',
    () => encodeRecord('report', { body: json({ gateways: { g: -1 } }) }),
    /^REPORT\.gateways must be/,
  ],
  [
    'a bad REFUSED',
    (s) => of(s, 'refused', { body: json({ code: 'NO' }) }),
    /^REFUSED\.code must be one of FULL, DRAINING/,
  ],
  [
    'a COMMIT of what was not sent',
    (s) => of(s, 'commit', { body: u32s([4]) }),
    /^COMMIT of message 4, but only 3/,
  ],
  [
    'the largest COMMIT',
    (s) => of(s, 'commit', { body: u32s([0xffff_ffff]) }),
    /^COMMIT of message 4294967295/,
  ],
]

test('each breach of the protocol costs the node its link, its sessions recover, and nobody else notices', async () => {
  const { newVictim, undisturbed, gateway } = await startNeighbourhood()
  for (const [name, breach, reason] of breaches) {
    const { bad, victim, session } = await newVictim()
    bad.send(breach(session))
    const end = await bad.ended
    expect(end, name).toEqual({ code: 4400, reason: expect.stringMatching(reason) })
    await expectRecovered({ victim }, name)
  }
  await undisturbed()
  expect(gateway.operator.counters.messagesLost).toBe(0)
})

test('what was sent before the breach counts, what comes after it does not', async () => {
  const { newVictim, undisturbed } = await startNeighbourhood()
  const { bad, victim, session } = await newVictim()
  bad.script = { message: () => {} }
  victim.send(2)
  await bad.next('message', ({ body }) => body.readUInt32LE(0) === 5)
  const reply = JSON.stringify({ n: 4, count: 4, node: 'bad', term: 1, redelivered: false })
  const commit = of(session, 'commit', { flags: RecordFlag.state, body: u32s([4], '{"count":4}') })
  bad.send(output(session, 4, reply), commit, encodeRecord(0x7f), output(session, 5, 'in the same message'))
  bad.send(output(session, 5, 'in the next message'))
  bad.send(of(session, 'close', { body: Buffer.from([0xe8, 0x03]) }))
  expect((await bad.ended).code).toBe(4400)
  await expectRecovered({ victim }, 'after the breach')
  expect(victim.others).toEqual([])
  expect(victim.replies.filter(({ redelivered }) => redelivered).map(({ n }) => n)).toEqual([5])
  await undisturbed()
})

test('a node that does not answer the close frame keeps its sessions no longer for it', async () => {
  const { newVictim, undisturbed } = await startNeighbourhood()
  const { bad, victim } = await newVictim()
  bad.stopReading()
  bad.send(encodeRecord(0x7f))
  await expectRecovered({ victim }, 'while the bad node is still connected')
  await undisturbed()
})

test('records for sessions, terms and nodes that do not fit are dropped and counted', async () => {
  const { gateway, newVictim, undisturbed, neighbour } = await startNeighbourhood()
  const { bad, victim, session } = await newVictim()
  const dropped = () => gateway.operator.counters.staleFramesDropped
  const records = (number: number, term: number): Buffer[] => {
    const other = { ...session, number, term }
    return [
      output(other, 4, 'stale'),
      output(other, 0, 'late', RecordFlag.late),
      of(other, 'commit', { flags: RecordFlag.state, body: u32s([1], '{"count":77}') }),
      of(other, 'fin', { body: u32s([term + 1]) }),
      of(other, 'close', { body: Buffer.from([0xe8, 0x03]) }),
      of(other, 'closed'),
    ]
  }
  const neighbours = 1
  expect(session.number).not.toBe(neighbours)
  const places: [string, number, number][] = [
    ['no such session', 4_000_000_000, 1],
    ['a session of another node', neighbours, 1],
    ['a session of another node, a term to come', neighbours, 2],
    ['its own session, a lower term', session.number, 0],
    ['its own session, a higher term', session.number, 7],
  ]
  for (const [name, number, term] of places) {
    const before = dropped()
    bad.send(...records(number, term))
    await bad.settled()
    expect(dropped() - before, name).toBe(6)
  }
  // Answers to what it was never asked.
  bad.send(of(session, 'ready'), of(session, 'fin', { body: u32s([2]) }))
  await bad.settled()
  victim.send(3)
  await victim.answers()
  expect(victim.verify()).toEqual([])
  expect(new Set(victim.replies.map(({ node }) => node))).toEqual(new Set(['bad']))
  expect([...victim.others, ...neighbour.others]).toEqual([])
  await undisturbed()
  expect(gateway.operator.counters.messagesLost).toBe(0)
})

test('outputs that repeat are dropped and counted, and a gap is counted', async () => {
  const { gateway, newVictim, undisturbed } = await startNeighbourhood()
  const { bad, victim, session } = await newVictim()
  bad.send(output(session, 3, 'again'), output(session, 1, 'again'), output(session, 4, 'fourth'))
  bad.send(output(session, 7, 'seventh'))
  await victim.until(() => victim.others.length === 2, 'two outputs')
  expect(victim.others).toEqual(['fourth', 'seventh'])
  expect(gateway.operator.counters).toMatchObject({ messagesDuplicated: 2, messagesLost: 2 })
  await undisturbed()
})

test('a close reason that is no UTF-8 closes its own client and nothing else', async () => {
  const { gateway, newVictim, undisturbed } = await startNeighbourhood()
  const { bad, victim, session } = await newVictim()
  bad.send(of(session, 'close', { body: Buffer.alloc(125, 0xff).fill(Buffer.from([0xa1, 0x0f]), 0, 2) }))
  await victim.until(() => victim.closeCode === 4001, 'the close').catch(() => {})
  expect(victim.closeCode).toBe(4001)
  await bad.settled()
  await undisturbed()
  expect(gateway.operator.sessions().sessions).toHaveLength(1)
})

test('a state or an output beyond the limit costs the link: the gateway keeps no more than it says', async () => {
  const { newVictim, undisturbed } = await startNeighbourhood()
  const tooBig: [string, (session: ScriptedSession) => Buffer][] = [
    [
      'state',
      (s) => of(s, 'commit', { flags: RecordFlag.state, body: u32s([3], json('x'.repeat(64 * 1024))) }),
    ],
    ['output', (s) => output(s, 4, 'x'.repeat(1024 * 1024 + 1))],
  ]
  for (const [name, record] of tooBig) {
    const { bad, victim, session } = await newVictim()
    bad.send(record(session))
    expect((await bad.ended).code, name).toBe(4400)
    await expectRecovered({ victim }, name)
    expect(victim.others, name).toEqual([])
  }
  await undisturbed()
})

test('a state that is no JSON costs its own session, not the nodes that it comes to', async () => {
  const { newVictim, undisturbed } = await startNeighbourhood()
  for (const rest of ['{"count":', '', 'undefined']) {
    const { bad, victim, session } = await newVictim()
    bad.send(of(session, 'commit', { flags: RecordFlag.state, body: u32s([3], rest) }))
    bad.crash()
    await expect.poll(() => victim.closeCode, { message: rest }).toBe(1011)
  }
  await undisturbed()
})

test('garbage and flipped bits, from many nodes', async () => {
  const { gateway, undisturbed } = await startNeighbourhood()
  const random = createRandom(seed)
  for (let round = 0; round < 60; round++) {
    const node = await ScriptedNode.link(gateway, { id: `bad-${round}`, hello: { pool: 'elsewhere' } })
    const batch = Buffer.concat([
      encodeRecord('report', {
        body: json({ gateways: {}, eventLoopLagMs: 0, weight: 1, drain: null, steered: 0 }),
      }),
      output(
        { number: random.int(1, 3), term: random.int(0, 2) },
        random.int(0, 9),
        'x'.repeat(random.int(0, 40)),
      ),
      encodeRecord('commit', {
        session: random.int(1, 3),
        term: random.int(0, 9),
        body: u32s([random.int(0, 9)]),
      }),
    ])
    const flips = random.int(0, 3)
    for (let i = 0; i < flips; i++) batch[random.int(0, batch.length - 1)]! ^= 1 << random.int(0, 7)
    if (random.chance(0.3)) for (let i = 0; i < batch.length; i++) batch[i] = random.int(0, 255)
    node.send(batch.subarray(0, random.chance(0.2) ? random.int(0, batch.length) : batch.length))
    await nextTurn()
    if (random.chance(0.5)) node.crash()
    else await Promise.race([node.settled().catch(() => {}), node.ended])
  }
  await undisturbed()
})

test.each([
  ['a paused client', 0],
  ['outputs that are never committed', RecordFlag.held],
])('a node that ignores its credit, with %s, loses its link', async (_name, flags) => {
  const { newVictim, undisturbed } = await startNeighbourhood()
  const { bad, victim, session } = await newVictim()
  victim.ws.pause()
  const payload = 'x'.repeat(512 * 1024)
  // The kernel takes some megabytes for a client that does not read; the credit is one.
  for (let sent = 0; sent < 64; sent++) bad.send(output(session, 4 + sent, payload, flags))
  expect(await bad.ended).toMatchObject({
    code: 4400,
    reason: expect.stringMatching(/^OUTPUT far beyond the credit/),
  })
  victim.ws.terminate()
  await undisturbed()
})
