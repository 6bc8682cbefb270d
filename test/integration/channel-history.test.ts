import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ChannelHandler } from '../../src/cluster/bus.ts'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import type { Gateway } from '../../src/gateway/gateway.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
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

/** A member whose subscriptions and reads can be made to wait. */
function slowed(member: ClusterMember) {
  const gates: (() => void)[] = []
  let reads = 0
  let live: ((channel: string, deliver: () => void) => void) | null = null
  let readGate: Promise<void> | null = null
  const cluster: ClusterMember = {
    ...member,
    bus: Object.assign(Object.create(member.bus) as ClusterMember['bus'], {
      subscribe: (channel: string, handler: ChannelHandler) =>
        member.bus.subscribe(channel, (payload, text, position) => {
          const copy = Buffer.from(payload)
          if (live === null) handler(copy, text, position)
          else live(channel, () => handler(copy, text, position))
        }),
    }),
    history: Object.assign(Object.create(member.history) as ClusterMember['history'], {
      async read(channel: string, after: Position | null) {
        reads++
        const answer = await member.history.read(channel, after)
        await readGate
        return answer
      },
    }),
  }
  return {
    cluster,
    get reads() {
      return reads
    },
    /** Live messages wait until the returned function is called. */
    holdLive(): () => void {
      live = (_channel, deliver) => void gates.push(deliver)
      return () => {
        live = null
        for (const deliver of gates.splice(0)) deliver()
      }
    },
    /** Answers wait until the returned function is called. */
    holdReads(): () => void {
      const gate = Promise.withResolvers<void>()
      readGate = gate.promise
      return () => {
        readGate = null
        gate.resolve()
      }
    },
  }
}

describe('in between', () => {
  async function setUp(options = {}) {
    const cluster = new MemoryCluster()
    const slow = slowed(cluster.join())
    const [one, other] = [startBareGateway(cluster.join(), options), startBareGateway(slow.cluster, options)]
    const witness = new ChannelClient(one).join('room')
    await witness.until('room', (items) => items.length > 0)
    const say = async (first: number, last: number) => {
      for (const n of range(first, last)) await publish(one, 'room', `m${n}`)
      await witness.until('room', () => witness.offsets('room').at(-1) === last)
      return witness.positions.get('room')!
    }
    return { slow, one, other, say }
  }

  test('messages that come while a client is made up for follow in order and once', async () => {
    const { slow, other, say } = await setUp({ history: [{ ...historyRule, size: 100 }] })
    const { epoch } = await say(1, 20)
    const release = slow.holdReads()
    const client = new ChannelClient(other).join('room', { epoch, offset: 5 })
    const newcomer = new ChannelClient(other).join('room')
    await expect.poll(() => slow.reads).toBe(1)
    await say(21, 60)
    expect(client.of('room')).toEqual([])
    release()
    await say(61, 70)
    for (const each of [client, newcomer]) await each.until('room', () => each.offsets('room').at(-1) === 70)
    expect(client.offsets('room')).toEqual(range(6, 70))
    expect(client.verdicts('room')).toHaveLength(1)
    expect(client.verdicts('room')[0]).toMatch(/^continuous/)
    // It joined before 21 was published.
    expect(newcomer.of('room')[0]).toBe('joined 20')
    expect(newcomer.offsets('room')).toEqual(range(21, 70))
  })

  test('a client that is ahead of its new gateway gets nothing twice, and members there miss nothing', async () => {
    const { slow, other, say } = await setUp()
    await say(1, 5)
    const local = new ChannelClient(other).join('room')
    await local.until('room', (items) => items.length > 0)
    const release = slow.holdLive()
    const since = await say(6, 12)
    const ahead = new ChannelClient(other).join('room', { ...since, offset: 10 })
    await ahead.until('room', (items) => items.length > 0)
    release()
    await say(13, 13)
    for (const client of [ahead, local])
      await client.until('room', () => client.offsets('room').at(-1) === 13)
    expect(ahead.offsets('room')).toEqual([11, 12, 13])
    expect(ahead.verdicts('room')).toEqual(['continuous 12'])
    expect(local.of('room')[0]).toBe('joined 5')
    expect(local.offsets('room')).toEqual(range(6, 13))
    expect(local.verdicts('room')).toHaveLength(1)
  })

  test('many who come back at once are served by few reads, or by none', async () => {
    const { slow, other, say } = await setUp()
    const { epoch } = await say(1, 200)
    const release = slow.holdReads()
    const join = (n: number) => new ChannelClient(other).join('room', { epoch, offset: 100 + (n % 100) })
    const crowd = range(1, 500).map(join)
    await expect.poll(() => slow.reads).toBe(1)
    crowd.push(...range(501, 1_000).map(join))
    release()
    for (const client of crowd) await client.until('room', (items) => items.at(-1)?.startsWith('c') === true)
    expect(slow.reads).toBeLessThanOrEqual(2)
    for (const [index, client] of crowd.entries())
      expect(client.offsets('room')).toEqual(range(101 + ((index + 1) % 100), 200))
    const readsBefore = slow.reads
    const late = range(1, 500).map(() => new ChannelClient(other).join('room', { epoch, offset: 150 }))
    for (const client of late) expect(client.verdicts('room')).toEqual(['continuous 200'])
    expect(slow.reads).toBe(readsBefore)
  })

  test('what a gateway keeps of a channel is bounded; what is older is read', async () => {
    const { slow, one, other, say } = await setUp({ history: [{ ...historyRule, size: 1_000 }] })
    const { epoch } = await say(1, 1)
    const local = new ChannelClient(other).join('room')
    await local.until('room', (items) => items.length > 0)
    for (const n of range(2, 30)) await publish(one, 'room', `${n}`.padEnd(20 * 1024))
    await local.until('room', () => local.offsets('room').at(-1) === 30)
    const readsBefore = slow.reads
    const near = new ChannelClient(other).join('room', { epoch, offset: 20 })
    expect(near.verdicts('room')).toEqual(['continuous 30'])
    expect(slow.reads).toBe(readsBefore)
    const far = new ChannelClient(other).join('room', { epoch, offset: 10 })
    await far.until('room', (items) => items.includes('continuous 30'))
    expect(far.offsets('room')).toEqual(range(11, 30))
    expect(slow.reads).toBe(readsBefore + 1)
  })

  test('who leaves while it waits gets nothing; the last one closes the channel', async () => {
    const { slow, other, say } = await setUp()
    const { epoch } = await say(1, 5)
    const release = slow.holdReads()
    const client = new ChannelClient(other).join('room', { epoch, offset: 1 })
    await expect.poll(() => slow.reads).toBe(1)
    expect(other.channels.membersHere('room')).toBe(1)
    client.session.leave('room')
    expect(other.channels.size).toBe(0)
    release()
    await say(6, 6)
    await nextTurn()
    expect(client.of('room')).toEqual([])
  })

  test.each(['drop', 'coalesce'] as const)(
    'a slow client with %s hears of what it missed',
    async (slowConsumer) => {
      const limits = { ...defaultLimits, clientBufferBytes: 10 }
      const { other, say } = await setUp({ slowConsumer, limits })
      const client = new ChannelClient(other).join('room')
      const keen = new ChannelClient(other).join('room')
      await client.until('room', (items) => items.length > 0)
      const last = async (n: number) => {
        await say(n, n)
        await keen.until('room', () => keen.offsets('room').at(-1) === n)
      }
      await last(1)
      client.pendingBytes = 1_000
      await last(2)
      await last(3)
      client.pendingBytes = 0
      client.session.connectionDrained()
      await last(4)
      await last(5)
      const late = slowConsumer === 'drop' ? [] : ['3 m3']
      expect(client.of('room')).toEqual(['joined -', '1 m1', ...late, '4 m4', 'gap 4', '5 m5'])
    },
  )
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
