import { Agent } from 'node:http'
import type { Session } from 'evenkeel/sdk'
import { createNode } from 'evenkeel/sdk'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

/** What PROTOCOL.md §3 promises to a client that comes back. */

const KiB = 1024
const limits = { seekUnlinkedMs: 100 }
const quietly = { rebalance: { enabled: false }, limits }
const quiet = { info() {}, warn() {}, error() {} }

/** Two gateways that know nothing of each other, and one node at both. */
async function twoGateways(
  message: (session: Session, data: string) => void | Promise<void>,
  overrides = {},
): Promise<[TestGateway, TestGateway]> {
  const first = await startTestGateway({ ...quietly, gatewayId: 'first', ...overrides })
  const second = await startTestGateway({ ...quietly, gatewayId: 'second', ...overrides })
  const node = createNode({
    id: 'a',
    gateways: [first.linkUrl, second.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
  })
  node.serve({ message: (session, data) => message(session, String(data)) })
  onTestFinished(() => node.stop())
  await node.start()
  const linked = ({ operator }: TestGateway) => operator.nodes().some(({ id }) => id === 'a')
  await expect.poll(() => linked(first) && linked(second)).toBe(true)
  return [first, second]
}

const echo = (session: Session, data: string) => void session.send(data)

/** `many n`: so many outputs. */
function talk(session: Session, data: string): void {
  const [word, count] = data.split(' ')
  if (word !== 'many') session.send(data)
  else for (let i = 1; i <= Number(count); i++) session.send(`${i}`)
}

async function lost(gateway: TestGateway, stream: SseStream): Promise<void> {
  stream.cut()
  await expect.poll(() => gateway.operator.counters.connections.sse).toBe(0)
}

describe.each([
  { where: 'the same gateway', elsewhere: 0 },
  { where: 'another gateway', elsewhere: 1 },
])('the stream is lost and comes back to $where', ({ elsewhere }) => {
  test('what came after the last id follows it, once and in order', async () => {
    const gateways = await twoGateways(talk)
    const first = await SseStream.open(gateways[0].httpUrl)
    const known = await first.session()
    await postTo(gateways[0].httpUrl, known, 'many 5')
    while ((await first.next()).data !== '5');
    const third = first.events.find(({ data }) => data === '3')!
    await lost(gateways[0], first)
    expect((await postTo(gateways[0].httpUrl, known, 'while away')).status).toBe(202)

    const to = gateways[elsewhere]!
    const second = await SseStream.open(to.httpUrl, { lastEventId: third.lastEventId })
    const again = await second.session()
    expect(again).toMatchObject({ session: known.session, recovered: true, reason: null })
    await postTo(to.httpUrl, again, 'last')
    while ((await second.next()).data !== 'last');
    expect(second.data()).toEqual(['4', '5', 'while away', 'last'])
    expect(second.data('gap')).toEqual([])
  })

  test('a repeated post waits for the message that the node has, and is answered as that one', async () => {
    const gate = Promise.withResolvers<void>()
    const got: string[] = []
    const gateways = await twoGateways(async (session, data) => {
      got.push(data)
      await gate.promise
      session.send(data)
    })
    const first = await SseStream.open(gateways[0].httpUrl)
    const known = await first.session()
    const key = { 'idempotency-key': 'k1' }
    const statusOf = (posted: Promise<Response>) => posted.then(({ status }) => status)
    const before = statusOf(postTo(gateways[0].httpUrl, known, 'once', key))
    await expect.poll(() => got).toEqual(['once'])
    const behind = statusOf(postTo(gateways[0].httpUrl, known, 'behind', { 'idempotency-key': 'k2' }))
    await expect.poll(() => gateways[0].operator.sessions().sessions[0]?.uncommitted).toBe(2)
    await lost(gateways[0], first)

    const to = gateways[elsewhere]!
    const second = await SseStream.open(to.httpUrl, { lastEventId: first.lastEventId })
    const again = await second.session()
    // A new message must not take the place of those that only the node has.
    const other = statusOf(postTo(to.httpUrl, again, 'other'))
    const repeated = statusOf(postTo(to.httpUrl, again, 'once', key))
    await expect.poll(() => to.operator.sessions().sessions[0]?.uncommitted).toBe(3)
    gate.resolve()
    expect(await Promise.all([repeated, other])).toEqual([202, 202])
    expect(await Promise.all([before, behind])).toEqual(elsewhere === 0 ? [202, 202] : [503, 503])
    expect((await postTo(to.httpUrl, again, 'once', key)).status).toBe(202)
    expect((await postTo(to.httpUrl, again, 'behind', { 'idempotency-key': 'k2' })).status).toBe(202)
    expect(got).toEqual(['once', 'behind', 'other'])
    while ((await second.next()).data !== 'other');
    expect(second.data()).toEqual(['once', 'behind', 'other'])
  })

  test('outputs that are no longer held: an event says which, and the session goes on', async () => {
    const small = { limits: { ...limits, clientBufferBytes: 64 * KiB } }
    const gateways = await twoGateways(async (session, data) => {
      if (data === 'ping') session.send('pong')
      // The client reads: its node never waits for long.
      else
        for (let i = 1; i <= 20; i++)
          if (!session.send(`${i} ${'x'.repeat(4 * KiB)}`)) await session.drained()
    }, small)
    const first = await SseStream.open(gateways[0].httpUrl)
    const known = await first.session()
    const early = first.lastEventId
    await postTo(gateways[0].httpUrl, known, 'go')
    while (!(await first.next()).data.startsWith('20 '));
    await lost(gateways[0], first)

    const to = gateways[elsewhere]!
    const second = await SseStream.open(to.httpUrl, { lastEventId: early })
    const again = await second.session()
    expect(again).toMatchObject({ session: known.session, recovered: true })
    const gap = JSON.parse((await second.next('gap')).data) as { from: number; to: number }
    await postTo(to.httpUrl, again, 'ping')
    while ((await second.next()).data !== 'pong');
    const numbers = second.data().map((data) => Number.parseInt(data, 10))
    expect(gap.from).toBe(1)
    expect(gap.to).toBeGreaterThan(0)
    // A quarter of the buffer, and what may be above it before anything is given up.
    expect(20 - gap.to).toBeGreaterThanOrEqual(4)
    expect(20 - gap.to).toBeLessThanOrEqual(5)
    expect(numbers.slice(0, -1)).toEqual(Array.from({ length: 20 - gap.to }, (_, i) => gap.to + 1 + i))
    expect(to.operator.counters.resumes.gap).toBe(1)
  })
})

describe('ids', () => {
  test('the one before is good until the new one was used, by a reconnect or by a post', async () => {
    const gateway = await startTestGateway(quietly)
    await startTestNode(gateway, { message: (session, data) => void session.send(data) })
    const open = async (lastEventId?: string) => {
      const stream = await SseStream.open(gateway.httpUrl, lastEventId === undefined ? {} : { lastEventId })
      const known = await stream.session()
      return { stream, known, id: stream.lastEventId }
    }
    const a = await open()
    const b = await open(a.id)
    expect(b.known).toMatchObject({ recovered: true, session: a.known.session })
    expect(b.known.token).not.toBe(a.known.token)
    await a.stream.end()
    // As if the second session event had been lost; a post with the old token is no sign.
    expect((await postTo(gateway.httpUrl, a.known, 'x')).status).toBe(202)
    const c = await open(a.id)
    expect(c.known).toMatchObject({ recovered: true })
    expect((await postTo(gateway.httpUrl, c.known, 'x')).status).toBe(202)
    for (const used of [a, b]) {
      expect((await postTo(gateway.httpUrl, used.known, 'x')).status).toBe(410)
      const stale = await open(used.id)
      expect(stale.known).toMatchObject({ recovered: false, reason: 'token' })
      expect(stale.known.session).not.toBe(a.known.session)
    }
    expect((await open(c.id)).known).toMatchObject({ recovered: true })
  })

  test.each([
    ['of somebody else', 'nonsense'],
    ['too short', 'a.b.c'],
    ['of no session', `session.${'t'.repeat(43)}.7`],
    ['with half a position', `session.${'t'.repeat(43)}.7.room`],
    ['too long', 'x'.repeat(2_000)],
  ])('%s: a new session, and the client hears why', async (_what, lastEventId) => {
    const gateway = await startTestGateway(quietly)
    await startTestNode(gateway, { message: (session, data) => void session.send(data) })
    const stream = await SseStream.open(gateway.httpUrl, { lastEventId })
    expect(await stream.session()).toMatchObject({ recovered: false, reason: 'unknown' })
  })

  test('their secret reaches neither node nor operator, and is worth nothing over a WebSocket', async () => {
    const gateway = await startTestGateway(quietly)
    const metas: unknown[] = []
    await startTestNode(gateway, { open: (session) => void metas.push(session.meta) })
    const first = await SseStream.open(gateway.httpUrl)
    const { session, token } = await first.session()
    const second = await SseStream.open(gateway.httpUrl, { lastEventId: `${first.lastEventId}1` })
    await second.session()
    const secret = token.split('.')[0]!
    expect(first.lastEventId).toContain(secret)
    expect(metas).toHaveLength(2)
    expect(JSON.stringify([metas, gateway.operator.sessions()])).not.toContain(secret)
    const resume = { session, token: secret, out: 0, channels: {} }
    const { welcome } = await RawResumableClient.connect(gateway.wsUrl, { resume })
    expect(welcome).toMatchObject({ recovered: false, reason: 'token' })
  })
})

test('the client has until `resumeMs`; then it gets a new session', async () => {
  const gateway = await startTestGateway({ ...quietly, limits: { ...limits, resumeMs: 100 } })
  await startTestNode(gateway, {})
  const first = await SseStream.open(gateway.httpUrl)
  await first.session()
  await lost(gateway, first)
  await expect.poll(() => gateway.operator.sessions().sessions, { timeout: 5_000 }).toEqual([])
  const late = await SseStream.open(gateway.httpUrl, { lastEventId: first.lastEventId })
  expect(await late.session()).toMatchObject({ recovered: false, reason: 'unknown' })
})

describe('channels', () => {
  const history = [{ match: 'room:*', size: 100, ttlMs: 60_000 }]

  async function inRooms(rooms: string[]) {
    const gateway = await startTestGateway({ ...quietly, channels: { history } })
    await startTestNode(gateway, {
      open: (session) => rooms.forEach((room) => void session.join(room)),
      message: (session, data) => void session.send(data),
    })
    const publish = (channel: string, data: string) => gateway.operator.publish(channel, data)
    for (const room of rooms) await publish(room, 'before')
    const stream = await SseStream.open(gateway.httpUrl)
    await stream.session()
    return { gateway, stream, publish }
  }

  test('what was missed is replayed, and a verdict says that it is all', async () => {
    const { gateway, stream, publish } = await inRooms(['room:a', 'room:b'])
    await expect.poll(() => stream.lastEventId.split('.')).toHaveLength(7)
    await publish('room:a', 'a1')
    await stream.next()
    await lost(gateway, stream)
    await publish('room:a', 'a2')
    await publish('room:b', 'b1')
    const again = await SseStream.open(gateway.httpUrl, { lastEventId: stream.lastEventId })
    const verdicts = [
      JSON.parse((await again.next('verdict')).data),
      JSON.parse((await again.next('verdict')).data),
    ]
    expect(verdicts.toSorted((a, b) => a.channel.localeCompare(b.channel))).toMatchObject([
      { channel: 'room:a', verdict: 'continuous' },
      { channel: 'room:b', verdict: 'continuous' },
    ])
    await publish('room:b', 'b2')
    while ((await again.next()).data !== 'b2');
    expect(again.data().toSorted()).toEqual(['a2', 'b1', 'b2'])
  })

  test('a channel without history: the verdict is a gap', async () => {
    const { gateway, stream } = await inRooms(['news'])
    await lost(gateway, stream)
    const again = await SseStream.open(gateway.httpUrl, { lastEventId: stream.lastEventId })
    expect(JSON.parse((await again.next('verdict')).data)).toEqual({
      channel: 'news',
      verdict: 'gap',
      position: null,
    })
  })

  test('more channels than an id holds: those that moved last are continuous, the others say gap', async () => {
    const rooms = Array.from({ length: 10 }, (_, i) => `room:${i}`)
    const { gateway, stream, publish } = await inRooms(rooms)
    for (const room of rooms.toReversed()) {
      await publish(room, room)
      await stream.next()
    }
    await lost(gateway, stream)
    const again = await SseStream.open(gateway.httpUrl, { lastEventId: stream.lastEventId })
    await again.until(() => again.data('verdict').length === 10, 'all verdicts')
    const gaps = again
      .data('verdict')
      .map((data) => JSON.parse(data))
      .filter(({ verdict }) => verdict === 'gap')
    expect(gaps.map(({ channel }) => channel).toSorted()).toEqual(['room:8', 'room:9'])
  })
})

test('a gateway that is drained sends its clients away, and they go on elsewhere', async () => {
  const gateways = await twoGateways(echo, { limits: { gatewayDrainMs: 100 } })
  const agent = new Agent({ keepAlive: true })
  onTestFinished(() => agent.destroy())
  const first = await SseStream.open(gateways[0].httpUrl, { agent })
  const known = await first.session()
  await postTo(gateways[0].httpUrl, known, 'one')
  await first.next()
  const left = gateways[0].leave()
  await first.end()
  await left
  expect(first.retryMs).toBe(100)
  // The connection is gone with its stream: over one that is kept alive the client would come back here.
  await expect(SseStream.open(gateways[0].httpUrl, { agent })).rejects.toThrow()
  const second = await SseStream.open(gateways[1].httpUrl, { lastEventId: first.lastEventId })
  expect(await second.session()).toMatchObject({ session: known.session, recovered: true })
  // The token of before, which names a gateway that is not known here.
  expect((await postTo(gateways[1].httpUrl, known, 'two')).status).toBe(202)
  expect(await second.next()).toMatchObject({ data: 'two' })
})

test('a post that comes before its stream is asked to wait', async () => {
  const [first, second] = await twoGateways(echo)
  const known = await (await SseStream.open(first.httpUrl)).session()
  const early = await postTo(second.httpUrl, known, 'x')
  expect(early.status).toBe(503)
  expect(Number(early.headers.get('retry-after'))).toBeGreaterThan(0)
})

test('a client that does not read: its node waits, and everything comes once it reads', async () => {
  const gateway = await startTestGateway({ ...quietly, limits: { clientBufferBytes: 256 * KiB } })
  const count = 400
  let sent = 0
  await startTestNode(gateway, {
    async message(session) {
      while (sent < count) if (!session.send(`${sent++} ${'x'.repeat(64 * KiB)}`)) await session.drained()
    },
  })
  const stream = await SseStream.open(gateway.httpUrl)
  const known = await stream.session()
  stream.response.pause()
  const posted = postTo(gateway.httpUrl, known, 'go')
  let before = -1
  const stands = () => {
    const stood = sent > 0 && sent === before
    before = sent
    return stood
  }
  await expect.poll(stands, { interval: 500, timeout: 10_000 }).toBe(true)
  expect(sent).toBeLessThan(count)
  stream.response.resume()
  expect((await posted).status).toBe(202)
  await stream.until(() => stream.data().length === count, 'all outputs')
  expect(stream.data().map((data) => Number.parseInt(data, 10))).toEqual([...Array(count).keys()])
})
