import { expect, test } from 'vitest'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { recordChannel, texts } from '../support/clusters.ts'
import { joinMany, type TestMember, type World } from './worlds.ts'

/** What every bus does, whatever carries it. */
export function busContract(world: World): void {
  test('every subscriber gets every message once, in the order of each publisher', async () => {
    const members = await joinMany(world.createCluster(), 3)
    const channels = ['room:1', 'room:2', 'room {3}']
    const recorders = []
    for (const member of members) {
      for (const channel of channels) {
        const recorder = await recordChannel(member, channel)
        expect(recorder.live).toBe(true)
        recorders.push(recorder)
      }
    }
    const count = 200
    const published: Promise<void>[] = []
    for (let n = 0; n < count; n++) {
      for (const [from, { bus }] of members.entries()) {
        for (const channel of channels)
          published.push(bus.publish(channel, Buffer.from(`${from}:${n}`), true))
      }
    }
    await Promise.all(published)
    for (const recorder of recorders) {
      await recorder.until((items) => items.length >= count * members.length)
      for (const from of members.keys()) {
        const own = texts(recorder).filter((text) => text.startsWith(`${from}:`))
        expect(own).toEqual(Array.from({ length: count }, (_, n) => `${from}:${n}`))
      }
      expect(recorder.items).toHaveLength(count * members.length)
    }
  })

  test('payloads arrive as they were sent, text as text and binary as binary', async () => {
    const [sender, receiver] = await joinMany(world.createCluster(), 2)
    const recorder = await recordChannel(receiver!, 'grüße')
    const sent = [
      { payload: Buffer.from(''), text: true },
      { payload: Buffer.alloc(0), text: false },
      { payload: Buffer.from('plain, grün 🌊'), text: true },
      { payload: Buffer.from('bytes that happen to be text'), text: false },
      { payload: Buffer.from([0xff, 0x00, 0xfe]), text: false },
      { payload: Buffer.from('\0text that begins with NUL'), text: true },
      { payload: Buffer.from([0]), text: false },
      { payload: Buffer.from('\0b'), text: true },
      { payload: Buffer.from('\0t\xff', 'latin1'), text: false },
      { payload: Buffer.alloc(defaultLimits.messageBytes, 7), text: false },
    ]
    for (const { payload, text } of sent) await sender!.bus.publish('grüße', payload, text)
    await recorder.until((items) => items.length === sent.length)
    expect(recorder.items.map(({ payload, text }) => ({ payload, text }))).toEqual(sent)
  })

  test('the publisher may reuse its buffer at once', async () => {
    const [member] = await joinMany(world.createCluster(), 1)
    const recorder = await recordChannel(member!, 'a')
    const slab = Buffer.from('first')
    const first = member!.bus.publish('a', slab, true)
    slab.write('XXXXX')
    await first
    await recorder.until((items) => items.length === 1)
    expect(texts(recorder)).toEqual(['first'])
  })

  test('nothing comes after unsubscribe; the channel can be taken again', async () => {
    const [sender, receiver] = await joinMany(world.createCluster(), 2)
    const left = await recordChannel(receiver!, 'left')
    const kept = await recordChannel(receiver!, 'kept')
    const say = async (text: string) => {
      await sender!.bus.publish('left', Buffer.from(text), true)
      await sender!.bus.publish('kept', Buffer.from(text), true)
      await kept.until((items) => items.at(-1)?.payload.toString() === text)
    }
    await say('1')
    await left.until((items) => items.length === 1)
    await receiver!.bus.unsubscribe('left')
    await say('2')
    const again = await recordChannel(receiver!, 'left')
    expect(again.live).toBe(true)
    await say('3')
    await again.until((items) => items.length === 1)
    expect([texts(left), texts(again), texts(kept)]).toEqual([['1'], ['3'], ['1', '2', '3']])
  })

  test('leaving and joining in one turn ends with the new handler', async () => {
    const [member] = await joinMany(world.createCluster(), 1)
    const before = await recordChannel(member!, 'a')
    const gone = member!.bus.unsubscribe('a')
    const after = await recordChannel(member!, 'a')
    await gone
    await member!.bus.publish('a', Buffer.from('x'), true)
    await after.until((items) => items.length === 1)
    expect([before.items.length, after.items.length]).toEqual([0, 1])
  })

  test('mistakes have codes', async () => {
    const [{ bus }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    const nothing = () => {}
    await bus.subscribe('a', nothing)
    await expect(bus.subscribe('a', nothing)).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(bus.subscribe('', nothing)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(bus.subscribe('x'.repeat(256), nothing)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(bus.publish('', Buffer.from('x'), true)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(bus.publish('a', Buffer.from([0xff]), true)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    const large = Buffer.alloc(defaultLimits.messageBytes + 1)
    await expect(bus.publish('a', large, false)).rejects.toMatchObject({ code: 'TOO_LARGE' })
    await bus.unsubscribe('never subscribed')
    expect(bus.status()).toEqual({ ready: true, reason: null })
    await bus.close()
    expect(bus.status()).toEqual({ ready: false, reason: 'closed' })
    await expect(bus.publish('a', Buffer.from('x'), true)).rejects.toMatchObject({ code: 'NOT_READY' })
    await expect(bus.subscribe('b', nothing)).rejects.toMatchObject({ code: 'NOT_READY' })
  })

  test('closing ends every subscription, also where others share the connection', async () => {
    const [sender, receiver] = await joinMany(world.createCluster(), 2)
    const closed = await recordChannel(receiver!, 'a')
    const open = await recordChannel(sender!, 'a')
    await receiver!.bus.close()
    await sender!.bus.publish('a', Buffer.from('x'), true)
    await open.until((items) => items.length === 1)
    // A second message behind it proves that the first one has passed everywhere.
    await sender!.bus.publish('a', Buffer.from('y'), true)
    await open.until((items) => items.length === 2)
    expect(closed.items).toEqual([])
  })

  if (world.name !== 'memory')
    test('any Redis client can publish', async () => {
      const cluster = world.createCluster()
      const [member] = await joinMany(cluster, 1)
      const recorder = await recordChannel(member!, 'news')
      const publish = cluster.foreignPublish!
      await publish('news', 'grüße')
      await publish('news', Buffer.from([0xff, 0x01]))
      await publish('news', Buffer.from('\0bgrüße'))
      await publish('news', Buffer.from('\0tgrüße'))
      // None of these is an envelope.
      for (const junk of [[0x00], [0x00, 0x78, 0x79], [0x00, 0x74, 0xff]])
        await publish('news', Buffer.from(junk))
      for (const junk of ['\0pt', '\0pta-x y', '\0pxa-1 y']) await publish('news', junk)
      await publish('news', Buffer.alloc(defaultLimits.messageBytes + 1, 1))
      await publish('news', '')
      await recorder.until((items) => items.at(-1)?.payload.length === 0)
      expect(recorder.items.map(({ payload, text }) => [payload.toString('latin1'), text])).toEqual([
        [Buffer.from('grüße').toString('latin1'), true],
        ['\xff\x01', false],
        [Buffer.from('grüße').toString('latin1'), false],
        [Buffer.from('grüße').toString('latin1'), true],
        ['', true],
      ])
      // One report for the flood, not one for each.
      expect(member!.problems.items.map(({ code }) => code)).toEqual(['RECORD_INVALID'])
    })
}
