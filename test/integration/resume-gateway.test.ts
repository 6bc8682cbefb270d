import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { RecordFlag, RecordType } from '../../src/protocol/link-records.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { encodeRecord, json, u32s, type WireRecord } from '../support/link-wire.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { output, type Script, ScriptedNode } from '../support/scripted-node.ts'

/** The gateway's side of PROTOCOL.md §1.10 and §2.1, record by record. */

const hashOf = (token: string) => createHash('sha256').update(token).digest('base64url')
const bodyOf = (record: WireRecord) => JSON.parse(record.body.toString())

const unknown: Script = {
  seek: (record, node) => {
    const body = json({ seek: bodyOf(record).seek, term: 0, live: false, reason: 'unknown' })
    node.send(encodeRecord('found', { body }))
  },
}
const keeps: Script = {
  ...unknown,
  keep: ({ session, term, body }, node) =>
    node.send(encodeRecord('kept', { session, term, body: u32s([JSON.parse(String(body)).version]) })),
}

const quietly = { rebalance: { enabled: false }, limits: { seekUnlinkedMs: 100 } }

async function stage(limits = {}): Promise<{ gateway: TestGateway; a: ScriptedNode }> {
  const gateway = await startTestGateway({ ...quietly, limits: { ...quietly.limits, ...limits } })
  const a = await ScriptedNode.link(gateway, { id: 'a', script: keeps })
  return { gateway, a }
}

const sessionsOf = (gateway: TestGateway) => gateway.operator.sessions().sessions
const resumeOf = ({ welcome }: { welcome: { session: string; token: string } }, out = 0, channels = {}) => ({
  resume: { session: welcome.session, token: welcome.token, out, channels },
})

describe('a new session', () => {
  test('is kept by a node before its client is welcomed', async () => {
    const gateway = await startTestGateway(quietly)
    const a = await ScriptedNode.link(gateway, { script: { keep() {} } })
    const client = await RawResumableClient.open(gateway.wsUrl)
    client.send('h{}')
    const open = await a.next('open')
    const keep = await a.next('keep')
    expect(open.flags & RecordFlag.resumable).toBe(RecordFlag.resumable)
    await a.settled()
    expect(client.frames).toEqual([])
    const { version, tokens, out, channels } = bodyOf(keep)
    expect({ out, channels }).toEqual({ out: 0, channels: [] })
    a.send(
      encodeRecord('kept', { session: keep.session, term: keep.term, body: u32s([version]) }),
      output({ number: open.session, term: open.term }, 1, 'hi'),
    )
    const welcome = await client.welcomed()
    await client.frame('m')
    expect(welcome).toMatchObject({ recovered: null, reason: null, ack: 0, last: 0, out: 0 })
    expect(tokens).toEqual([hashOf(welcome.token)])
    expect(client.messages()).toEqual(['hi'])
  })

  test('that nobody was welcomed to ends with its connection', async () => {
    const gateway = await startTestGateway(quietly)
    const a = await ScriptedNode.link(gateway, { script: { keep() {} } })
    const client = await RawResumableClient.open(gateway.wsUrl)
    client.send('h{}')
    await a.next('keep')
    client.cut()
    await a.next('close')
    await expect.poll(() => sessionsOf(gateway)).toEqual([])
  })
})

describe('the connection is lost', () => {
  test('what was not acknowledged comes again, and committed messages are not asked for again', async () => {
    const { gateway, a } = await stage()
    const first = await RawResumableClient.connect(gateway.wsUrl)
    const { session, term } = await a.next('open')
    const at = { number: session, term }
    first.send('mone')
    first.send('mtwo')
    await first.frame('a2')
    a.send(output(at, 3, 'three'))
    await first.frame('mthree')
    first.send('a1')
    expect((await a.next('acked')).body.readUInt32LE(0)).toBe(1)
    first.cut()
    await expect.poll(() => gateway.operator.counters.connections.websocket).toBe(0)
    a.send(output(at, 4, 'four'))
    await a.settled()

    const second = await RawResumableClient.connect(gateway.wsUrl, resumeOf(first, 2))
    expect(second.welcome).toMatchObject({ recovered: true, ack: 2, last: 2, out: 2 })
    await second.frame('m', 2)
    expect(second.messages()).toEqual(['three', 'four'])
    expect(a.kinds().filter((kind) => kind === 'CLOSE' || kind === 'OPEN')).toEqual(['OPEN'])
    second.send('mthird')
    await second.frame('a3')
  })

  test('the client has until `resumeMs`; then its session ends', async () => {
    const { gateway, a } = await stage({ resumeMs: 100 })
    const client = await RawResumableClient.connect(gateway.wsUrl)
    client.cut()
    const close = await a.next('close')
    expect(close.body.readUInt16LE(0)).toBe(1006)
    await expect.poll(() => sessionsOf(gateway)).toEqual([])
    const late = await RawResumableClient.connect(gateway.wsUrl, resumeOf(client))
    expect(late.welcome).toMatchObject({ recovered: false, reason: 'unknown' })
  })

  test('a client that closes with 1000 has left', async () => {
    const { gateway, a } = await stage()
    const client = await RawResumableClient.connect(gateway.wsUrl)
    client.close(1000)
    await a.next('close')
  })

  test('who comes back takes over from a connection that is still there', async () => {
    const { gateway } = await stage()
    const first = await RawResumableClient.connect(gateway.wsUrl)
    const second = await RawResumableClient.connect(gateway.wsUrl, resumeOf(first))
    expect(await first.ended).toMatchObject({ code: 4101 })
    expect(second.welcome).toMatchObject({ recovered: true, session: first.welcome.session })
    second.send('mone')
    await second.frame('a1')
  })
})

describe('tokens', () => {
  test('the one before is valid until the first frame after the welcome', async () => {
    const { gateway, a } = await stage()
    const first = await RawResumableClient.connect(gateway.wsUrl)
    const second = await RawResumableClient.connect(gateway.wsUrl, resumeOf(first))
    // As if the second welcome had been lost.
    const third = await RawResumableClient.connect(gateway.wsUrl, resumeOf(first))
    expect(third.welcome.recovered).toBe(true)
    third.send('a0')
    await a.next('keep', (record) => bodyOf(record).tokens.length === 1 && bodyOf(record).version > 1)
    for (const used of [first, second]) {
      const stale = await RawResumableClient.connect(gateway.wsUrl, resumeOf(used))
      expect(stale.welcome).toMatchObject({ recovered: false })
      expect(stale.welcome.session).not.toBe(first.welcome.session)
    }
    expect(third.closed).toBe(false)
    const fourth = await RawResumableClient.connect(gateway.wsUrl, resumeOf(third))
    expect(fourth.welcome.recovered).toBe(true)
  })
})

describe('a move', () => {
  test('the target gets what the client has not acknowledged, and the source is released after that', async () => {
    const { gateway, a } = await stage()
    const client = await RawResumableClient.connect(gateway.wsUrl)
    const open = await a.next('open')
    a.send(
      output({ number: open.session, term: open.term }, 1, 'one'),
      output({ number: open.session, term: open.term }, 2, 'two'),
    )
    await client.frame('mtwo')
    client.send('a1')
    await a.next('acked')
    const b = await ScriptedNode.link(gateway, { id: 'b', script: { keep() {} } })
    gateway.operator.migrate(client.welcome.session, 'b')
    const { session, term } = await b.next('activate')
    // The first one says who may take the prepared session away.
    expect(bodyOf(await b.next('keep'))).toMatchObject({
      tokens: [hashOf(client.welcome.token)],
      channels: null,
    })
    const keep = await b.next('keep')
    const tail = await b.next('tail')
    expect(b.kinds()).toEqual(['WELCOME', 'PREPARE', 'KEEP', 'ACTIVATE', 'KEEP', 'TAIL'])
    expect(bodyOf(keep)).toMatchObject({ out: 1, channels: [] })
    expect([tail.body.readUInt32LE(0), tail.body.toString('utf8', 4)]).toEqual([2, 'two'])
    await a.settled()
    expect(a.kinds()).not.toContain('RELEASE')
    b.send(encodeRecord('kept', { session, term, body: u32s([bodyOf(keep).version]) }))
    await a.next('release')
  })
})

/** Answers SEEK as a node that has the session, and TAKE with it. */
function holds(term: number, taken: { acked: number; state?: unknown; channels?: string[] }): Script {
  return {
    ...keeps,
    seek: (record, node) => {
      node.send(encodeRecord('found', { body: json({ seek: bodyOf(record).seek, term, live: true }) }))
    },
    take: ({ session, term: taking, body }, node) => {
      const info = json({
        meta: { id: body.toString('utf8', 8), address: '192.0.2.1' },
        channels: taken.channels ?? [],
      })
      const state = taken.state === undefined ? Buffer.alloc(0) : json(taken.state)
      node.sessions.set(session, {
        number: session,
        term: taking,
        phase: 'open',
        acked: taken.acked,
        out: 9,
        state: undefined,
      })
      node.send(
        encodeRecord('taken', {
          session,
          term: taking,
          flags: taken.state === undefined ? 0 : RecordFlag.state,
          body: Buffer.concat([u32s([taken.acked, info.length]), info, state]),
        }),
        output({ number: session, term: taking }, body.readUInt32LE(4) + 1, 'behind'),
      )
    },
  }
}
const wanted = { resume: { session: 'far-away', token: 't'.repeat(43), out: 7, channels: {} } }

describe('a session of another gateway', () => {
  test('the highest live term is taken, under a higher one; the others are dropped', async () => {
    const gateway = await startTestGateway(quietly)
    const low = await ScriptedNode.link(gateway, { id: 'low', script: holds(3, { acked: 5 }) })
    const high = await ScriptedNode.link(gateway, { id: 'high', script: holds(6, { acked: 5 }) })
    await ScriptedNode.link(gateway, { id: 'other', script: unknown })
    const client = await RawResumableClient.connect(gateway.wsUrl, wanted)
    const seek = bodyOf(await high.next('seek'))
    expect(seek).toMatchObject({
      session: 'far-away',
      token: hashOf('t'.repeat(43)),
      next: hashOf(client.welcome.token),
    })
    const take = await high.next('take')
    expect(take.term).toBe(7)
    expect(take.body.readUInt32LE(4)).toBe(7)
    expect(bodyOf(await low.next('drop'))).toEqual({ session: 'far-away', term: 7 })
    expect(client.welcome).toMatchObject({ session: 'far-away', recovered: true, ack: 5, last: 5, out: 7 })
    await client.frame('mbehind')
    expect(sessionsOf(gateway)).toMatchObject([{ id: 'far-away', node: 'high', term: 7 }])
    client.send('msix')
    expect((await high.next('message')).body.readUInt32LE(0)).toBe(6)
    await client.frame('a6')
  })

  test('its node may commit what the client has not sent here yet', async () => {
    const gateway = await startTestGateway(quietly)
    const a = await ScriptedNode.link(gateway, { script: { ...holds(3, { acked: 5 }), message() {} } })
    const client = await RawResumableClient.connect(gateway.wsUrl, wanted)
    const { session, term } = await a.next('take')
    a.send(encodeRecord('commit', { session, term, body: u32s([7]) }))
    await client.frame('a7')
    for (const n of [6, 7, 8]) client.send(`m${n}`)
    const message = await a.next('message')
    expect(message.body.readUInt32LE(0)).toBe(8)
  })

  test('a node that is linked later is asked too', async () => {
    const gateway = await startTestGateway({ ...quietly, limits: {} })
    await ScriptedNode.link(gateway, { id: 'empty', script: unknown })
    const client = await RawResumableClient.open(gateway.wsUrl)
    client.send(`h${JSON.stringify(wanted)}`)
    await ScriptedNode.link(gateway, { id: 'late', script: holds(2, { acked: 0 }) })
    expect(await client.welcomed()).toMatchObject({ recovered: true })
  })

  test('a node that is lost while it is asked for the session leaves a plain word', async () => {
    const gateway = await startTestGateway({ ...quietly, limits: { seekUnlinkedMs: 200 } })
    await ScriptedNode.link(gateway, { id: 'other', script: keeps })
    const script: Script = { ...holds(2, { acked: 0 }), take: (_record, node) => node.crash() }
    await ScriptedNode.link(gateway, { id: 'holder', script })
    const client = await RawResumableClient.connect(gateway.wsUrl, wanted)
    expect(client.welcome).toMatchObject({ recovered: false, reason: 'unknown' })
  })

  test('outputs that are gone are said to be gone', async () => {
    const gateway = await startTestGateway(quietly)
    const script: Script = {
      ...holds(2, { acked: 0 }),
      take: ({ session, term }, node) =>
        node.send(encodeRecord('refused', { session, term, body: json({ code: 'GAP', message: '' }) })),
    }
    const a = await ScriptedNode.link(gateway, { script })
    const client = await RawResumableClient.connect(gateway.wsUrl, wanted)
    expect(client.welcome).toMatchObject({ recovered: false, reason: 'gap' })
    await a.next('drop')
  })

  test('LOST ends the session here and closes its connection', async () => {
    const { gateway, a } = await stage()
    const client = await RawResumableClient.connect(gateway.wsUrl)
    const { session, term } = await a.next('open')
    a.send(encodeRecord('lost', { session, term: term + 1 }))
    await a.settled()
    expect(client.closed).toBe(false)
    a.send(encodeRecord('lost', { session, term }))
    expect(await client.ended).toMatchObject({ code: 4101 })
    await expect.poll(() => sessionsOf(gateway)).toEqual([])
    expect(a.received.filter(({ type }) => type === RecordType.close)).toEqual([])
  })
})

test('whoever asks whether anybody is there is answered', async () => {
  const { gateway } = await stage()
  const client = await RawResumableClient.connect(gateway.wsUrl)
  client.send('p')
  client.send('p')
  await client.frame('p', 2)
  expect(client.closed).toBe(false)
})

describe('the gateway leaves', () => {
  test('it asks its clients to move, and tells the nodes nothing', async () => {
    const { gateway, a } = await stage({ gatewayDrainMs: 100 })
    const client = await RawResumableClient.connect(gateway.wsUrl)
    const left = gateway.leave()
    await client.frame('r')
    client.close(4000)
    await left
    await gateway.close()
    expect(await a.ended).toMatchObject({ code: 4001 })
    expect(a.kinds()).not.toContain('CLOSE')
  })
})

describe('frames that are not allowed', () => {
  const junk: [string, (string | Buffer)[]][] = [
    ['no hello', ['mhi']],
    ['hello as bytes', [Buffer.from('h{}')]],
    ['hello that is no JSON', ['h{']],
    ['resume without a token', ['h{"resume":{"session":"s"}}']],
    ['hello twice', ['h{}', 'h{}']],
    ['an empty frame', ['h{}', '']],
    ['an unknown frame', ['h{}', 'zzz']],
    ['a ping that says something', ['h{}', 'pp']],
    ['a ping as bytes', ['h{}', Buffer.from('p')]],
    ['an acknowledgement of nothing', ['h{}', 'a7']],
    ['an acknowledgement that is no number', ['h{}', 'a-1']],
  ]
  test.each(junk)('%s costs the connection', async (_title, frames) => {
    const { gateway } = await stage()
    const good = await RawResumableClient.connect(gateway.wsUrl)
    const bad = await RawResumableClient.open(gateway.wsUrl)
    bad.send(frames[0]!)
    if (frames.length > 1) {
      await bad.welcomed()
      bad.send(frames[1]!)
    }
    expect(await bad.ended).toMatchObject({ code: 4100 })
    good.send('mstill')
    await good.frame('a1')
  })

  test('a frame between hello and welcome costs the connection', async () => {
    const gateway = await startTestGateway(quietly)
    await ScriptedNode.link(gateway, { script: { keep() {} } })
    const client = await RawResumableClient.open(gateway.wsUrl)
    client.send('h{}')
    client.send('mhasty')
    expect(await client.ended).toMatchObject({ code: 4100 })
  })
})
