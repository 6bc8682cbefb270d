import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Gateway } from '../../src/gateway/gateway.ts'
import {
  ChannelClient,
  epochOf,
  historyRule,
  publish,
  range,
  startBareGateway,
} from '../support/channel-clients.ts'
import { joinRedisInTest, randomPrefix } from '../support/clusters.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisClusterServers, RedisServer } from '../support/redis.ts'

const seed = testSeed('channel history faults')

interface Pair {
  one: Gateway
  other: Gateway
  prefix: string
}

async function twoGateways(url: string, options = {}): Promise<Pair> {
  const prefix = randomPrefix()
  const [a, b] = [await joinRedisInTest(url, { prefix }), await joinRedisInTest(url, { prefix })]
  return { prefix, one: startBareGateway(a, options), other: startBareGateway(b, options) }
}

async function member(gateway: Gateway, channel = 'room'): Promise<ChannelClient> {
  const client = new ChannelClient(gateway).join(channel)
  await client.until(channel, (items) => items.length > 0)
  return client
}

/** Publishes again and again until Redis takes it. What was refused may have got there all the same. */
async function publishAtLast(gateway: Gateway, text: string, channel = 'room'): Promise<void> {
  await expect
    .poll(
      () =>
        publish(gateway, channel, text).then(
          () => true,
          () => false,
        ),
      { timeout: 20_000, interval: 20 },
    )
    .toBe(true)
}

async function ready(...gateways: Gateway[]): Promise<void> {
  await expect
    .poll(() => gateways.every(({ cluster }) => cluster.bus.status().ready), {
      timeout: 20_000,
      interval: 20,
    })
    .toBe(true)
}

describe('one Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await RedisServer.start()
  })
  // A test that failed in the middle must not fail those that follow.
  afterEach(async () => {
    server.resume()
    if (!server.running) await server.restart()
  })
  afterAll(() => server?.stop())

  test('cut off from its channels again and again while others publish: nothing is lost or doubled', async () => {
    const random = createRandom(seed)
    const { one, other } = await twoGateways(server.url)
    const channels = ['room:1', 'room:2', 'room:3']
    const clients = await Promise.all(
      [one, other].flatMap((gateway) => channels.map((channel) => member(gateway, channel))),
    )
    // An empty history proves nothing: were it cut off before the first message, a gap would have to be told.
    for (const channel of channels) await publish(one, channel, 'm1')
    for (const [index, client] of clients.entries())
      await client.until(channels[index % 3]!, (items) => items.length === 2)
    let cutting = true
    const cuts = (async () => {
      for (let cut = 0; cut < 12; cut++) {
        await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
        await delay(random.int(0, 120))
      }
      cutting = false
    })()
    let count = 1
    while (cutting || count < 300) {
      count++
      for (const channel of channels) await publish(random.pick([one, other]), channel, `m${count}`)
    }
    await cuts
    for (const [index, client] of clients.entries()) {
      const channel = channels[index % channels.length]!
      await client.until(channel, () => client.offsets(channel).at(-1) === count)
      expect(client.offsets(channel)).toEqual(range(1, count))
      expect(client.of(channel).slice(1)).toEqual(range(1, count).map((n) => `${n} m${n}`))
      expect(client.verdicts(channel)).toEqual(['joined -'])
    }
  })

  test('a gap is told before the first message behind it, however many channels there are', async () => {
    const prefix = randomPrefix()
    const [a, b] = [
      await joinRedisInTest(server.url, { prefix }),
      await joinRedisInTest(server.url, { prefix }),
    ]
    const events = new Recorder<number | 'gap'>()
    onTestFinished(b.bus.onGap((channels) => channels.includes('busy') && events.add('gap')))
    await b.bus.subscribe('busy', (payload) => events.add(Number(payload)))
    await Promise.all(range(1, 3_000).map((n) => b.bus.subscribe(`quiet:${n}`, () => {})))
    let published = 0
    let going = true
    const publishing = (async () => {
      while (going) await a.bus.publish('busy', Buffer.from(String(++published)), true)
    })()
    const gaps = () => events.items.filter((item) => item === 'gap').length
    for (let cut = 1; cut <= 5; cut++) {
      await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
      await events.until(() => gaps() >= cut)
    }
    going = false
    await publishing
    let holes = 0
    let last = 0
    for (const [index, item] of events.items.entries()) {
      if (item === 'gap') continue
      if (item > last + 1) {
        holes++
        expect(events.items[index - 1]).toBe('gap')
      }
      last = item
    }
    expect(holes).toBeGreaterThan(0)
  })

  test('the last message before silence was missed: it comes all the same', async () => {
    const { one, other, prefix } = await twoGateways(server.url)
    const client = await member(other)
    await publish(one, 'room', 'm1')
    await client.until('room', (items) => items.length === 2)
    // Published in the same step as the cut, so that no subscriber can have it.
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await publish(one, 'room', 'm2')
    await client.until('room', (items) => items.length === 3)
    expect(client.of('room')).toEqual(['joined -', '1 m1', '2 m2'])
    expect(await server.command('XLEN', `${prefix}channel:room`)).toBe(2)
  })

  test('more was missed than is kept: what is kept comes, and then the gap is told', async () => {
    const history = [{ ...historyRule, size: 4 }]
    const { one, other, prefix } = await twoGateways(server.url, { history })
    const client = await member(other)
    await publish(one, 'room', 'm1')
    await client.until('room', (items) => items.length === 2)
    const release = holdMessages(other)
    for (const n of range(2, 10)) await publish(one, 'room', `m${n}`)
    release()
    await publish(one, 'room', 'm11')
    await client.until('room', (items) => items.includes('gap 11'))
    await publish(one, 'room', 'm12')
    await client.until('room', (items) => items.at(-1) === '12 m12')
    expect(client.of('room')).toEqual([
      'joined -',
      '1 m1',
      ...range(8, 11).map((n) => `${n} m${n}`),
      'gap 11',
      '12 m12',
    ])
    expect(await server.command('XLEN', `${prefix}channel:room`)).toBe(4)
  })

  test('killed and restarted empty: the gap is told, and the new history is followed', async () => {
    const { one, other } = await twoGateways(server.url)
    const clients = [await member(one), await member(other)]
    for (const n of range(1, 5)) await publish(one, 'room', `m${n}`)
    for (const client of clients) await client.until('room', (items) => items.length === 6)
    const [before] = clients.map((client) => epochOf(client, 'room'))
    await server.kill()
    await server.restart()
    for (const client of clients)
      await client.until('room', () => client.verdicts('room').some((item) => item.startsWith('gap')))
    await publishAtLast(one, 'new')
    for (const client of clients) {
      await client.until('room', (items) => items.some((item) => item.endsWith('new')))
      expect(client.of('room').slice(6)).toEqual(['gap -', '1 new'])
      expect(epochOf(client, 'room')).not.toBe(before)
    }
    // Whoever comes back now has a gap, too, and gets what there is.
    const back = new ChannelClient(other).join('room', { epoch: before!, offset: 3 })
    await back.until('room', (items) => items.length === 2)
    expect(back.of('room')).toEqual(['1 new', 'gap 1'])
  })

  test('restarted without the last writes: the gap is told, though their offsets are counted again', async () => {
    const rewound = await RedisServer.start()
    onTestFinished(() => rewound.stop())
    const { one, other } = await twoGateways(rewound.url)
    const client = await member(other)
    for (const n of range(1, 3)) await publish(one, 'room', `m${n}`)
    await rewound.command('SAVE')
    for (const n of range(4, 5)) await publish(one, 'room', `m${n}`)
    await client.until('room', (items) => items.length === 6)
    const since = client.positions.get('room')!
    await rewound.kill()
    await rewound.restart()
    // More than were lost, and as soon as Redis takes them: the subscriptions may be back before or after.
    for (const n of range(1, 5)) await publishAtLast(one, `new${n}`)
    await client.until('room', (items) => items.some((item) => item.endsWith('new5')))
    const after = client.of('room').slice(6)
    expect(after.filter((item) => /^\d/.test(item))).toEqual(range(1, 5).map((n) => `${n} new${n}`))
    expect(client.verdicts('room').at(-1)).toMatch(/^gap/)
    const back = new ChannelClient(other).join('room', since)
    await back.until('room', (items) => items.at(-1) === 'gap 5')
    expect(back.offsets('room')).toEqual(range(1, 5))
  })

  test('stopped for 3 s and resumed: what was taken arrives once and in order, at all gateways', async () => {
    const { one, other } = await twoGateways(server.url)
    const clients = [await member(one), await member(other)]
    const taken: string[] = []
    let n = 0
    const publishFor = async (ms: number) => {
      const until = performance.now() + ms
      while (performance.now() < until) {
        const text = `m${++n}`
        await publish(n % 2 === 0 ? one : other, 'room', text).then(
          () => taken.push(text),
          () => delay(20),
        )
        // What a gateway misses until it is subscribed again must not be more than the history keeps, or it is a gap.
        await delay(1)
      }
    }
    await publishFor(300)
    server.pause()
    await publishFor(3_000)
    server.resume()
    await ready(one, other)
    await publishFor(300)
    await publishAtLast(one, 'last')
    for (const client of clients) {
      await client.until('room', (items) => items.some((item) => item.endsWith('last')))
      const offsets = client.offsets('room')
      expect(offsets).toEqual(range(1, offsets.length))
      const texts = new Set(client.of('room').map((item) => item.split(' ')[1]!))
      expect(taken.filter((text) => !texts.has(text))).toEqual([])
      expect(client.verdicts('room')).toEqual(['joined -'])
    }
    expect(clients[0]!.of('room')).toEqual(clients[1]!.of('room'))
  })

  test('joining while Redis is away is no failure; where it is, is told when it is back', async () => {
    const { one, other } = await twoGateways(server.url)
    await server.kill()
    const fresh = new ChannelClient(one).join('room')
    const back = new ChannelClient(other).join('room', { epoch: 'a', offset: 7 })
    await fresh.until('room', (items) => items.length > 0)
    await back.until('room', (items) => items.length > 0)
    expect([fresh.of('room'), back.of('room')]).toEqual([['joined -'], ['gap -']])
    // Others who come meanwhile need not wait.
    const late = new ChannelClient(one).join('room', { epoch: 'a', offset: 7 })
    await late.until('room', (items) => items.length > 0)
    expect(late.of('room')).toEqual(['gap -'])
    await server.restart()
    for (const client of [fresh, back, late])
      await client.until('room', () => client.verdicts('room').length >= 2)
    await publishAtLast(one, 'x')
    for (const client of [fresh, back, late]) {
      await client.until('room', () => client.offsets('room').length > 0)
      expect(
        client
          .of('room')
          .filter((item) => !item.startsWith('gap'))
          .slice(-1),
      ).toEqual(['1 x'])
      expect(client.offsets('room')).toEqual([1])
    }
  })

  test('a history that cannot be read holds nobody up for good, and is not asked all the time', async () => {
    const { one, other, prefix } = await twoGateways(server.url)
    const client = await member(other)
    for (const n of range(1, 3)) await publish(one, 'room', `m${n}`)
    await client.until('room', (items) => items.length === 4)
    let reads = 0
    const { history } = other.cluster
    const read = history.read.bind(history)
    history.read = (...args) => {
      reads++
      return read(...args)
    }
    // Something that is no history is in its place: every read fails, and every publish.
    const key = `${prefix}channel:room`
    await server.command('RENAME', key, `${key}:aside`)
    await server.command('SET', key, 'junk')
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await expect.poll(() => reads, { timeout: 20_000 }).toBeGreaterThan(3)
    const startedAt = performance.now()
    const before = reads
    const back = new ChannelClient(other).join('room', { epoch: 'a', offset: 1 })
    await back.until('room', (items) => items.length > 0)
    expect(back.of('room')).toEqual(['gap 3'])
    await delay(500)
    expect(reads - before).toBeLessThan(2 + (performance.now() - startedAt) / 50)
    await server.command('RENAME', `${key}:aside`, key)
    await publish(one, 'room', 'm4')
    for (const each of [client, back]) await each.until('room', (items) => items.at(-1) === '4 m4')
    expect(client.of('room')).toEqual(['joined -', '1 m1', '2 m2', '3 m3', '4 m4'])
  })
})

/** What the bus brings is lost until the returned function is called. */
function holdMessages(gateway: Gateway): () => void {
  const channel = gateway.channels.get('room')!
  const { receive } = channel
  channel.receive = () => {}
  return () => {
    channel.receive = receive
  }
}

describe('a Redis Cluster', () => {
  let servers: RedisClusterServers
  beforeAll(async () => {
    servers = await RedisClusterServers.start()
  })
  afterAll(() => servers?.stop())

  test('cut off from its channels while others publish: nothing is lost or doubled', async () => {
    const { one, other } = await twoGateways(servers.url)
    const channels = ['room:red', 'room:green', 'room:blue']
    const clients = await Promise.all(channels.map((channel) => member(other, channel)))
    for (let n = 1; n <= 200; n++) {
      if (n % 40 === 0)
        await Promise.all(servers.servers.map((server) => server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')))
      await Promise.all(channels.map((channel) => publish(one, channel, `m${n}`)))
    }
    for (const [index, client] of clients.entries()) {
      const channel = channels[index]!
      await client.until(channel, () => client.offsets(channel).at(-1) === 200)
      expect(client.offsets(channel)).toEqual(range(1, 200))
      expect(client.verdicts(channel)).toEqual(['joined -'])
    }
  })

  test('a replica takes over: what it may have lost is told as a gap', async () => {
    const { one, other, prefix } = await twoGateways(servers.url)
    const client = await member(other)
    for (const n of range(1, 3)) await publish(one, 'room', `m${n}`)
    const key = `${prefix}channel:room`
    const master = await servers.ownerOf(key)
    const replica = await servers.addReplica(master)
    await publishAtLast(one, 'kept')
    await expect.poll(async () => replica.command('EXISTS', key).catch(() => 1)).toBe(1)
    await client.until('room', (items) => items.at(-1)?.endsWith('kept') === true)
    const epoch = epochOf(client, 'room')
    const since = client.positions.get('room')!
    await master.kill()
    for (const n of range(1, 5)) await publishAtLast(one, `new ${n}`)
    // Not all of its servers hear of it at the same time.
    await expect.poll(async () => (await servers.ownerOf(key)).port).toBe(replica.port)
    await client.until('room', (items) => items.some((item) => item.endsWith('new 5')))
    expect(client.verdicts('room').at(-1)).toMatch(/^gap/)
    expect(epochOf(client, 'room')).not.toBe(epoch)
    const back = new ChannelClient(other).join('room', since)
    await back.until('room', (items) => items.at(-1)?.startsWith('gap') === true)
    expect(back.of('room')).toEqual([...range(1, 5).map((n) => `${n} new ${n}`), 'gap 5'])
  })
})
