import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { ChannelHandler } from '../../src/cluster/bus.ts'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import type { Position } from '../../src/protocol/position.ts'
import { ChannelClient, historyRule, publish, range, startBareGateway } from '../support/channel-clients.ts'

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
  for (const client of [ahead, local]) await client.until('room', () => client.offsets('room').at(-1) === 13)
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
