import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { slotOf } from '../../src/cluster/redis-slot.ts'
import {
  gatewayEntry,
  joinRedisInTest,
  randomPrefix,
  recordChanges,
  recordChannel,
} from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisClusterServers, RedisServer } from '../support/redis.ts'

describe('one Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await RedisServer.start()
  })
  afterAll(() => server?.stop())

  test('killed and restarted empty: all heals by itself, and nobody is thought to have left', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(server.url, { prefix })
    const b = await joinRedisInTest(server.url, { prefix })
    const messages = await recordChannel(b, 'room')
    const gaps = recordGaps(b)
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await b.registry.announce(gatewayEntry('b'))
    await seen.until((items) => items.length === 2)

    await server.kill()
    await until(() => !a.bus.status().ready && !b.bus.status().ready)
    expect(a.bus.status().reason).toContain(`Redis 127.0.0.1:${server.port}`)
    await expect(say(a, 'room', 'lost')).rejects.toMatchObject({ code: 'NOT_READY' })
    await expect(a.registry.lead('plan', 1_000)).rejects.toMatchObject({ code: 'NOT_READY' })
    // What is asked for while Redis is away is kept, and begins when it is back.
    const asked = await recordChannel(b, 'asked meanwhile')
    expect(asked.live).toBe(false)
    expect(await b.registry.announce(gatewayEntry('b', { state: 'draining' }))).toBe(false)

    await server.restart()
    await gaps.until((channels) => channels.includes('room') && channels.includes('asked meanwhile'))
    await seen.until((items) => items.includes('changed gateway/b'))
    await until(() => a.bus.status().ready && a.registry.status().ready)
    await say(a, 'room', 'found')
    await say(a, 'asked meanwhile', 'found')
    for (const recorder of [messages, asked]) {
      await recorder.until((items) => items.length > 0)
      expect(recorder.items.map(({ payload }) => payload.toString())).toEqual(['found'])
    }
    // The empty server has heard of both again: a newcomer, who has no view to keep, sees them.
    const newcomer = await joinRedisInTest(server.url, { prefix })
    const seenByNewcomer = recordChanges(newcomer.registry)
    await seenByNewcomer.until((items) => items.length === 2)
    expect(seen.items.filter((item) => item.startsWith('left'))).toEqual([])
    // And whoever does leave after that is missed as before.
    await a.registry.close()
    await seen.until((items) => items.includes('left gateway/a'))
  })

  test('who died while Redis was away is missed one lease after it is back', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(server.url, { prefix })
    const b = await joinRedisInTest(server.url, { prefix })
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await b.registry.announce(gatewayEntry('b'))
    await seen.until((items) => items.length === 2)
    await server.kill()
    await a.registry.close()
    await server.restart()
    await seen.until((items) => items.includes('left gateway/a'))
    expect(seen.items.filter((item) => item.startsWith('left'))).toEqual(['left gateway/a'])
  })

  test('stopped for 3 s: commands fail while it stands, and nothing hangs or is lost for good', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(server.url, { prefix })
    const b = await joinRedisInTest(server.url, { prefix })
    const messages = await recordChannel(b, 'room')
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await seen.until((items) => items.length === 1)
    let standing = true
    server.pause()
    const resumed = new Promise<void>((resolve) => {
      setTimeout(() => {
        standing = false
        server.resume()
        resolve()
      }, 3_000)
    })
    const outcomes = await Promise.all(
      [
        say(a, 'room', 'lost'),
        a.registry.lead('plan', 1_000),
        a.registry.announce(gatewayEntry('a', { state: 'draining' })),
        b.bus.subscribe('another', () => {}),
        b.bus.unsubscribe('room').then(() => recordChannel(b, 'room')),
      ].map(async (promise) => {
        const outcome = await promise.catch((error) => error.code)
        return { outcome, standing }
      }),
    )
    // Each has got its answer before Redis went on.
    expect(outcomes).toMatchObject([
      { outcome: 'NOT_READY', standing: true },
      { outcome: 'NOT_READY', standing: true },
      { outcome: false, standing: true },
      { outcome: false, standing: true },
      { outcome: { live: false }, standing: true },
    ])
    expect(a.bus.status().ready).toBe(false)
    expect(a.bus.status().reason).toMatch(/timed out|away/i)
    await resumed
    await until(() => a.bus.status().ready && b.bus.status().ready)
    const again = outcomes[4]!.outcome as Awaited<ReturnType<typeof recordChannel>>
    await until(async () => {
      await say(a, 'room', 'found')
      return again.items.length > 0
    })
    await seen.until((items) => items.includes('changed gateway/a'))
    expect(messages.items).toEqual([])
    expect(seen.items).toEqual(['joined gateway/a', 'changed gateway/a'])
  })

  test('20 times cut off from its channels: each time they come back, and the gap is told', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(server.url, { prefix })
    const b = await joinRedisInTest(server.url, { prefix })
    const messages = await recordChannel(b, 'room')
    const gaps = recordGaps(b)
    for (let cut = 1; cut <= 20; cut++) {
      await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
      await gaps.until((channels) => channels.length === cut)
      await say(a, 'room', String(cut))
      await messages.until((items) => items.length === cut)
    }
    expect(messages.items.map(({ payload }) => Number(payload))).toEqual(upTo(20))
    expect(gaps.items).toEqual(upTo(20).map(() => 'room'))
  })

  test('1,500 channels come back, all of them', async () => {
    const prefix = randomPrefix()
    const member = await joinRedisInTest(server.url, { prefix })
    const gaps = recordGaps(member)
    const channels = upTo(1_500).map((n) => `room:${n}`)
    const received = new Recorder<string>()
    const live = await Promise.all(
      channels.map((channel) => member.bus.subscribe(channel, () => received.add(channel))),
    )
    expect(live.every(Boolean)).toBe(true)
    await member.bus.unsubscribe('room:7')
    const raw = `${prefix}channel:room:7`
    expect(await server.command('PUBSUB', 'NUMSUB', raw)).toEqual([raw, 0])
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await gaps.until((items) => items.length >= channels.length - 1)
    expect(gaps.items.toSorted()).toEqual(channels.filter((channel) => channel !== 'room:7').toSorted())
    await Promise.all(channels.map((channel) => say(member, channel, 'x')))
    await received.until((items) => items.length >= channels.length - 1)
    expect(received.items.toSorted()).toEqual(gaps.items.toSorted())
  })

  test('more subscriptions at once than may be in flight: the rest follows, and is told as a gap', async () => {
    const limits = { redisInFlightBytes: 16 * 1024 }
    const member = await joinRedisInTest(server.url, { prefix: randomPrefix(), limits })
    const gaps = recordGaps(member)
    // From now on there is a connection, and each has a command of its own.
    await member.bus.subscribe('first', () => {})
    const channels = upTo(300).map((n) => `room:${n}`)
    const live = await Promise.all(channels.map((channel) => member.bus.subscribe(channel, () => {})))
    const refused = channels.filter((_, index) => !live[index])
    expect(refused.length).toBeGreaterThan(0)
    expect(refused.length).toBeLessThan(channels.length)
    await gaps.until((items) => items.length >= refused.length)
    expect(gaps.items.toSorted()).toEqual(refused.toSorted())
  })

  test.each(['killed', 'stopped'])('while Redis is %s publishers are refused, not queued', async (how) => {
    const allowed = 256 * 1024
    const limits = { redisInFlightBytes: allowed }
    const member = await joinRedisInTest(server.url, { prefix: randomPrefix(), limits })
    if (how === 'killed') {
      await server.kill()
      await until(() => !member.bus.status().ready)
    } else {
      server.pause()
    }
    const payload = Buffer.alloc(1_024, 1)
    const codes: string[] = []
    const attempts = upTo(10_000).map(() =>
      member.bus.publish('room', payload, false).catch((error) => void codes.push(error.code)),
    )
    // Refused at once, without any time-out: all but what may be in flight.
    await setImmediate()
    expect(codes.length).toBeGreaterThanOrEqual(how === 'killed' ? 10_000 : 10_000 - allowed / payload.length)
    await Promise.all(attempts)
    expect(new Set(codes)).toEqual(new Set(['NOT_READY']))
    expect(codes).toHaveLength(10_000)

    if (how === 'killed') await server.restart()
    else server.resume()
    await until(() => member.bus.status().ready)
    const messages = await recordChannel(member, 'room')
    expect(messages.live).toBe(true)
    await say(member, 'room', 'now')
    await messages.until((items) => items.at(-1)?.payload.toString() === 'now')
    // What was on its way may still have gone out; more than that was never kept.
    expect(messages.items.length).toBeLessThanOrEqual(how === 'killed' ? 1 : 1 + allowed / payload.length)
  })

  test('a gateway that starts before Redis works as soon as Redis is there', async () => {
    const late = await RedisServer.start()
    onTestFinished(() => late.stop())
    await late.kill()
    const member = await joinRedisInTest(late.url)
    expect(member.bus.status()).toMatchObject({
      ready: false,
      reason: expect.stringContaining('ECONNREFUSED'),
    })
    const gaps = recordGaps(member)
    const seen = recordChanges(member.registry)
    const messages = await recordChannel(member, 'room')
    expect(messages.live).toBe(false)
    expect(await member.registry.announce(gatewayEntry('a'))).toBe(false)
    await late.restart()
    await gaps.until((channels) => channels.includes('room'))
    await seen.until((items) => items.includes('joined gateway/a'))
    await say(member, 'room', 'x')
    await messages.until((items) => items.length === 1)
  })

  test('a conflict that arises while Redis was empty is reported, once', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(server.url, { prefix })
    await a.registry.announce(gatewayEntry('x'))
    const rival = JSON.stringify(gatewayEntry('x', { instance: 'another-instance' }))
    const tag = `${prefix}{registry}:`
    await server.command('HSET', `${tag}entries`, 'gateway/x', rival)
    await a.problems.until((items) => items.length === 1)
    expect(a.problems.items[0]).toMatchObject({ code: 'CONFLICT' })
    // The rival lapses, the id is ours again; nothing more was reported meanwhile.
    const seen = recordChanges(a.registry)
    await seen.until(() => seen.changes.some(({ entry }) => entry.instance === 'instance-of-x'))
    expect(a.problems.items).toHaveLength(1)
  })

  test('scripts that Redis forgot are sent again', async () => {
    const member = await joinRedisInTest(server.url, { prefix: randomPrefix() })
    expect(await member.registry.lead('plan', 60_000)).toBe(true)
    await server.command('SCRIPT', 'FLUSH')
    expect(await member.registry.lead('plan', 60_000)).toBe(true)
    expect(await member.registry.announce(gatewayEntry('a'))).toBe(true)
  })
})

describe('a Redis Cluster', () => {
  let servers: RedisClusterServers
  beforeAll(async () => {
    servers = await RedisClusterServers.start()
  })
  afterAll(() => servers?.stop())

  test('one server killed and restarted: only its channels have a gap, and all come back', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(servers.servers[0]!.url, { prefix })
    const b = await joinRedisInTest(servers.url, { prefix })
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await seen.until((items) => items.length === 1)
    const channels = upTo(30).map((n) => `room:${n}`)
    const received = new Recorder<string>()
    for (const channel of channels)
      expect(await b.bus.subscribe(channel, () => received.add(channel))).toBe(true)
    const gaps = recordGaps(b)
    const victim = await servers.ownerOf(`${prefix}channel:room:1`)
    const affected = []
    for (const channel of channels) {
      if ((await servers.ownerOf(`${prefix}channel:${channel}`)) === victim) affected.push(channel)
    }
    expect(affected.length).toBeLessThan(channels.length)

    await victim.kill()
    await until(() => !b.bus.status().ready)
    await expect(say(a, 'room:1', 'lost')).rejects.toMatchObject({ code: 'NOT_READY' })
    await victim.restart()
    await servers.ready()
    await gaps.until((items) => items.length >= affected.length)
    expect(gaps.items.toSorted()).toEqual(affected.toSorted())
    await until(() => a.bus.status().ready && b.bus.status().ready)
    await Promise.all(channels.map((channel) => say(a, channel, 'x')))
    await received.until((items) => items.length >= channels.length)
    expect(received.items.toSorted()).toEqual(channels.toSorted())
    expect(seen.items).toEqual(['joined gateway/a'])
  })

  test('20 times cut off from its channels: each time they come back, and the gap is told', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(servers.url, { prefix })
    const b = await joinRedisInTest(servers.url, { prefix })
    const channels = ['red', 'green', 'blue']
    const gaps = recordGaps(b)
    const recorders = await Promise.all(channels.map((channel) => recordChannel(b, channel)))
    for (let cut = 1; cut <= 20; cut++) {
      await Promise.all(servers.servers.map((server) => server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')))
      await gaps.until((items) => items.length === cut * channels.length)
      await Promise.all(channels.map((channel) => say(a, channel, String(cut))))
      for (const recorder of recorders) await recorder.until((items) => items.length === cut)
    }
    for (const recorder of recorders)
      expect(recorder.items.map(({ payload }) => Number(payload))).toEqual(upTo(20))
  })

  test('a slot that moves takes its channel along, with a gap', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(servers.url, { prefix })
    const b = await joinRedisInTest(servers.url, { prefix })
    const messages = await recordChannel(b, 'room')
    const stayed = await recordChannel(b, 'stays')
    const gaps = recordGaps(b)
    const raw = `${prefix}channel:room`
    for (let move = 1; move <= 3; move++) {
      const from = await servers.ownerOf(raw)
      const to = servers.servers.find((server) => server !== from)!
      await servers.moveSlot(slotOf(raw), from, to)
      await gaps.until((items) => items.length === move)
      // The publisher learns of the move by an error, or before it.
      await until(() =>
        say(a, 'room', String(move)).then(
          () => true,
          () => false,
        ),
      )
      await messages.until((items) => items.length === move)
    }
    await say(a, 'stays', 'x')
    await stayed.until((items) => items.length === 1)
    expect(messages.items.map(({ payload }) => Number(payload))).toEqual([1, 2, 3])
    expect(gaps.items).toEqual(['room', 'room', 'room'])
  })

  test('a slot that moves away and back leaves no channel deaf, though the map is as it was', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(servers.url, { prefix })
    const b = await joinRedisInTest(servers.url, { prefix })
    const messages = await recordChannel(b, 'room')
    const gaps = recordGaps(b)
    const raw = `${prefix}channel:room`
    const owner = await servers.ownerOf(raw)
    const other = servers.servers.find((server) => server !== owner)!
    await owner.command('CLUSTER', 'SETSLOT', slotOf(raw), 'NODE', await other.id())
    await owner.command('CLUSTER', 'SETSLOT', slotOf(raw), 'NODE', await owner.id())
    await gaps.until((items) => items.length > 0)
    await until(() =>
      say(a, 'room', 'x').then(
        () => true,
        () => false,
      ),
    )
    await messages.until((items) => items.length === 1)
  })

  test('a replica that takes over is found, with all channels and entries', async () => {
    const prefix = randomPrefix()
    const a = await joinRedisInTest(servers.url, { prefix })
    const b = await joinRedisInTest(servers.url, { prefix })
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await seen.until((items) => items.length === 1)
    const messages = await recordChannel(b, '{registry}')
    const gaps = recordGaps(b)
    const master = await servers.ownerOf('{registry}')
    const replica = await servers.addReplica(master)
    await master.kill()
    await gaps.until((items) => items.length > 0)
    await until(() => a.bus.status().ready && b.bus.status().ready)
    // The servers may not have told each other yet: until then one of them names nobody.
    await expect
      .poll(() => servers.ownerOf('{registry}').catch(() => null), { timeout: 10_000 })
      .toBe(replica)
    await say(a, '{registry}', 'x')
    await messages.until((items) => items.length === 1)
    await a.registry.withdraw()
    await seen.until((items) => items.includes('left gateway/a'))
  })
})

function recordGaps({ bus }: ClusterMember): Recorder<string> {
  const gaps = new Recorder<string>()
  onTestFinished(bus.onGap((channels) => channels.forEach(gaps.add)))
  return gaps
}

async function say({ bus }: ClusterMember, channel: string, text: string): Promise<void> {
  await bus.publish(channel, Buffer.from(text), true)
}

/** 1 to n. */
function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, index) => index + 1)
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  await expect.poll(isTrue, { timeout: 20_000, interval: 20 }).toBe(true)
}
