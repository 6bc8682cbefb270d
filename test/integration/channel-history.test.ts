import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import type { Gateway } from '../../src/gateway/gateway.ts'
import type { Position } from '../../src/protocol/position.ts'
import { ChannelClient, historyRule, publish, range, startBareGateway } from '../support/channel-clients.ts'
import { joinRedisInTest, randomPrefix } from '../support/clusters.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'

const seed = testSeed('channel history')

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server?.stop())

/** Members of one cluster. */
const worlds: [name: string, join: () => () => Promise<ClusterMember>][] = [
  [
    'memory',
    () => {
      const cluster = new MemoryCluster()
      return async () => cluster.join()
    },
  ],
  [
    'Redis',
    () => {
      const prefix = randomPrefix()
      return () => joinRedisInTest(server.url, { prefix })
    },
  ],
]

describe.each(worlds)('%s', (_name, createCluster) => {
  async function twoGateways(options = {}): Promise<[Gateway, Gateway]> {
    const join = createCluster()
    return [startBareGateway(await join(), options), startBareGateway(await join(), options)]
  }

  /** A client that is in the channel, at the end of what was published. */
  async function member(gateway: Gateway, channel = 'room'): Promise<ChannelClient> {
    const client = new ChannelClient(gateway).join(channel)
    await client.until(channel, (items) => items.length > 0)
    return client
  }

  async function publishMany(gateway: Gateway, first: number, last: number): Promise<void> {
    for (const n of range(first, last)) await publish(gateway, 'room', `m${n}`)
  }

  test('members hear where they join, and get every message with its offset, at all gateways', async () => {
    const [one, other] = await twoGateways()
    const early = await member(one)
    expect(early.of('room')).toEqual(['joined -'])
    await publishMany(other, 1, 3)
    await early.until('room', (items) => items.length === 4)
    const late = await member(other)
    expect(late.of('room')).toEqual(['joined 3'])
    await Promise.all(range(4, 103).map((n) => publish(n % 2 === 0 ? one : other, 'room', `m${n}`)))
    for (const [client, first] of [
      [early, 1],
      [late, 4],
    ] as const) {
      await client.until('room', () => client.offsets('room').at(-1) === 103)
      expect(client.offsets('room')).toEqual(range(first, 103))
      expect(client.verdicts('room')).toHaveLength(1)
    }
    expect(early.of('room').slice(-100)).toEqual(late.of('room').slice(-100))
  })

  test('who joins and publishes in one go gets its own message, or has joined behind it', async () => {
    const [gateway] = await twoGateways()
    for (const n of range(1, 20)) {
      const client = new ChannelClient(gateway).join('room')
      await publish(gateway, 'room', `hello${n}`)
      await client.until('room', (items) => items.length > 0)
      await publish(gateway, 'room', 'done')
      await client.until('room', (items) => items.at(-1)?.endsWith('done') === true)
      const [joined, ...messages] = client.of('room')
      const at = Number(joined!.replace('-', '0').split(' ')[1])
      expect(messages).toEqual([`${2 * n - 1} hello${n}`, `${2 * n} done`].slice(at - 2 * (n - 1)))
      client.session.leave('room')
    }
  })

  test('coming back elsewhere: what was missed, then the verdict, then what is new', async () => {
    const [one, other] = await twoGateways()
    const before = await member(one)
    await publishMany(one, 1, 3)
    await before.until('room', (items) => items.length === 4)
    before.session.leave('room')
    await publishMany(one, 4, 6)
    const after = new ChannelClient(other).join('room', before.positions.get('room'))
    await after.until('room', (items) => items.length === 4)
    await publishMany(one, 7, 7)
    await after.until('room', (items) => items.length === 5)
    expect(after.of('room')).toEqual(['4 m4', '5 m5', '6 m6', 'continuous 6', '7 m7'])
    // And once more, where the messages are still known.
    const again = new ChannelClient(other).join('room', before.positions.get('room'))
    expect(again.of('room')).toEqual(['4 m4', '5 m5', '6 m6', '7 m7', 'continuous 7'])
    const current = new ChannelClient(other).join('room', again.positions.get('room'))
    expect(current.of('room')).toEqual(['continuous 7'])
  })

  test.each([
    ['no position is known', null, [], 'gap 9'],
    ['another epoch', { epoch: 'another', offset: 3 }, [5, 6, 7, 8, 9], 'gap 9'],
    ['too long away', { offset: 3 }, [5, 6, 7, 8, 9], 'gap 9'],
    ['just in time', { offset: 4 }, [5, 6, 7, 8, 9], 'continuous 9'],
    ['nothing missed', { offset: 9 }, [], 'continuous 9'],
    ['a position that nothing has', { offset: 10 }, [], 'gap 9'],
  ])('coming back: %s', async (_case, since, missed, verdict) => {
    const [one, other] = await twoGateways({ history: [{ ...historyRule, size: 5 }] })
    const witness = await member(one)
    await publishMany(one, 1, 9)
    await witness.until('room', () => witness.offsets('room').length === 9)
    const { epoch } = witness.positions.get('room')!
    const position = since === null ? null : { epoch, ...since }
    // At a gateway that knows the channel, and at one that does not.
    for (const gateway of [one, other]) {
      const client = new ChannelClient(gateway).join('room', position)
      await client.until('room', (items) => items.includes(verdict))
      expect(client.of('room')).toEqual([...missed.map((n) => `${n} m${n}`), verdict])
      await publishMany(one, 10, 10)
      await client.until('room', (items) => items.at(-1)?.endsWith('m10') === true)
      expect(client.offsets('room')).toEqual([...missed, witness.offsets('room').at(-1)])
      await witness.until('room', () => witness.offsets('room').at(-1) === client.offsets('room').at(-1))
      // The next gateway sees it as it was.
      if (gateway === one) break
    }
    expect(witness.verdicts('room')).toEqual(['joined -'])
  })

  test('a channel without history has no positions, and says so to those who come back', async () => {
    const [one, other] = await twoGateways()
    const client = new ChannelClient(one).join('news')
    const back = new ChannelClient(one).join('news', { epoch: 'a', offset: 1 })
    const reborn = new ChannelClient(one).join('news', null)
    expect([client, back, reborn].map((each) => each.of('news'))).toEqual([[], ['gap -'], ['gap -']])
    await expect
      .poll(async () => {
        await publish(other, 'news', 'x')
        return client.of('news').at(-1)
      })
      .toBe('- x')
  })

  test('a history that ends in peace: no gap for members, nor for a client that was there to the end', async () => {
    const [one, other] = await twoGateways({ history: [{ ...historyRule, ttlMs: 150 }] })
    const client = await member(one)
    await publishMany(one, 1, 2)
    await client.until('room', (items) => items.length === 3)
    const since = client.positions.get('room')!
    await expect.poll(() => other.channels.head('room'), { timeout: 20_000 }).toBeNull()
    const back = new ChannelClient(one).join('room', since)
    expect(back.of('room')).toEqual(['continuous 2'])
    await publishMany(one, 1, 1)
    await client.until('room', (items) => items.length === 4)
    expect(client.of('room')).toEqual(['joined -', '1 m1', '2 m2', '1 m1'])
    expect(client.positions.get('room')!.epoch).not.toBe(since.epoch)
    // Where nobody was, nobody knows.
    const elsewhere = new ChannelClient(other).join('room', since)
    await elsewhere.until('room', (items) => items.length > 0)
    expect(elsewhere.verdicts('room')).toEqual(['gap 1'])
  })

  test('many come back at random places while others publish: each gets all that follows, once', async () => {
    const random = createRandom(seed)
    const [one, other] = await twoGateways()
    const witness = await member(one)
    const total = 600
    const published = (async () => {
      for (const n of range(1, total)) {
        await publish(random.chance(0.5) ? one : other, 'room', `m${n}`)
        if (n % 10 === 0) await nextTurn()
      }
    })()
    const clients: { client: ChannelClient; since: Position }[] = []
    while (clients.length < 150) {
      await witness.until('room', () => witness.offsets('room').length >= clients.length * 3 + 1)
      const { epoch } = witness.positions.get('room')!
      const since = { epoch, offset: random.int(0, witness.offsets('room').at(-1)!) }
      const gateway = random.pick([one, other])
      clients.push({ since, client: new ChannelClient(gateway).join('room', since) })
      // Some lose patience, and try again.
      if (random.chance(0.2)) {
        const { client } = clients.at(-1)!
        client.join('room')
        client.session.leave('room')
        client.seen.items.length = 0
        client.join('room', since)
      }
    }
    await published
    for (const { client, since } of clients) {
      await client.until('room', () => client.offsets('room').at(-1) === total)
      expect(client.offsets('room')).toEqual(range(since.offset + 1, total))
      expect(client.verdicts('room')).toEqual([expect.stringMatching(/^continuous \d+$/)])
    }
  })
})

test('configured at real gateways: nodes and operators publish with positions, any Redis client without', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const config = { redis: redis.url, channels: { history: [{ match: 'room:*', size: 5, ttlMs: 60_000 }] } }
  const [one, other] = [await startTestGateway(config), await startTestGateway(config)]
  const node = await startTestNode(one, { open: (session) => session.join('room:1') })
  const got: string[][] = []
  for (const gateway of [one, other]) {
    if (gateway === other)
      await startTestNode(other, { open: (session) => session.join('room:1') }, { id: 'b' })
    const ws = new WebSocket(gateway.wsUrl)
    onTestFinished(() => ws.terminate())
    const list: string[] = []
    got.push(list)
    ws.on('message', (data) => list.push(String(data)))
  }
  await expect
    .poll(async () => {
      await one.operator.publish('room:1', 'ready?')
      return got.every((list) => list.length > 0)
    })
    .toBe(true)
  for (let n = 1; n <= 10; n++) node.publish('room:1', `n${n}`)
  await other.operator.publish('room:1', 'from an operator')
  await redis.command('PUBLISH', 'evenkeel:channel:room:1', 'from redis-cli')
  for (const list of got) await expect.poll(() => list.at(-1)).toBe('from redis-cli')
  expect(await redis.command('XLEN', 'evenkeel:channel:room:1')).toBe(5)
  await one.operator.publish('elsewhere', 'x')
  expect(await redis.command('EXISTS', 'evenkeel:channel:elsewhere')).toBe(0)
})
