import { expect, test } from 'vitest'
import type { HistoryMessage } from '../../src/cluster/history.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { formatPosition, type Position, parsePosition } from '../../src/protocol/position.ts'
import { recordChannel, texts } from '../support/clusters.ts'
import { joinMany, type TestMember, type World } from './worlds.ts'

const bounds = { size: 100, ttlMs: 60_000 }

/** What every history does, wherever it is kept. */
export function historyContract(world: World): void {
  async function join(count: 1): Promise<[TestMember]>
  async function join(count: 2): Promise<[TestMember, TestMember]>
  async function join(count: number) {
    return await joinMany(world.createCluster(), count)
  }

  test('offsets count the messages of all publishers, and all subscribers get them in that order', async () => {
    const members = await joinMany(world.createCluster(), 3)
    const recorders = await Promise.all(members.map((member) => recordChannel(member, 'room')))
    const count = 100
    const published: Promise<Position>[] = []
    for (let n = 0; n < count; n++) {
      for (const [from, { history }] of members.entries())
        published.push(history.publish('room', Buffer.from(`${from}:${n}`), true, { ...bounds, size: 1_000 }))
    }
    const positions = await Promise.all(published)
    const [{ epoch }] = positions as [Position]
    expect(positions.every((position) => position.epoch === epoch)).toBe(true)
    const total = count * members.length
    expect(positions.map(({ offset }) => offset).toSorted((a, b) => a - b)).toEqual(upTo(total))
    expect(parsePosition(formatPosition(positions[0]!))).toEqual(positions[0])

    const { messages, continuous } = await members[0]!.history.read('room', { epoch, offset: 0 })
    expect(continuous).toBe(true)
    for (const from of members.keys()) {
      const own = stored(messages).filter((text) => text.startsWith(`${from}:`))
      expect(own).toEqual(Array.from({ length: count }, (_, n) => `${from}:${n}`))
    }
    for (const recorder of recorders) {
      await recorder.until((items) => items.length >= total)
      expect(recorder.items.map(({ position }) => position)).toEqual(
        upTo(total).map((offset) => ({ epoch, offset })),
      )
      expect(texts(recorder)).toEqual(stored(messages))
    }
  })

  test('payloads come back as they were sent, live and stored, text as text and binary as binary', async () => {
    const [sender, receiver] = await join(2)
    const recorder = await recordChannel(receiver, 'grüße')
    const sent = [
      { payload: Buffer.from(''), text: true },
      { payload: Buffer.alloc(0), text: false },
      { payload: Buffer.from('plain, grün 🌊'), text: true },
      { payload: Buffer.from('bytes that happen to be text'), text: false },
      { payload: Buffer.from([0xff, 0x00, 0xfe]), text: false },
      { payload: Buffer.from('\0pt1-1 looks like an envelope'), text: true },
      { payload: Buffer.alloc(defaultLimits.messageBytes, 7), text: false },
    ]
    const positions: Position[] = []
    for (const { payload, text } of sent)
      positions.push(await sender.history.publish('grüße', payload, text, bounds))
    const expected = sent.map((message, index) => ({ ...message, position: positions[index] }))
    await recorder.until((items) => items.length === sent.length)
    expect(recorder.items.map(({ channel: _, ...message }) => message)).toEqual(expected)
    const { messages } = await receiver.history.read('grüße', { ...positions[0]!, offset: 0 })
    expect(messages.map((message) => ({ ...message }))).toEqual(expected)
  })

  test('the publisher may reuse its buffer at once', async () => {
    const [{ history }] = await join(1)
    const slab = Buffer.from('first')
    const first = history.publish('a', slab, true, bounds)
    slab.write('XXXXX')
    const { messages } = await history.read('a', { ...(await first), offset: 0 })
    expect(stored(messages)).toEqual(['first'])
  })

  test('reading: the head alone, what is behind a position, and whether it is all', async () => {
    const [writer, { history }] = await join(2)
    expect(await history.read('a', null)).toEqual({ head: null, messages: [], continuous: true })
    const { epoch } = await fill(writer, 'a', 5)
    const head = { epoch, offset: 5 }
    expect(await history.read('a', null)).toEqual({ head, messages: [], continuous: true })
    for (const offset of [0, 1, 4, 5]) {
      const { messages, ...rest } = await history.read('a', { epoch, offset })
      expect(rest).toEqual({ head, continuous: true })
      expect(stored(messages)).toEqual(upTo(5).slice(offset).map(String))
    }
    // The last writes were lost, or the position was made up.
    expect(await history.read('a', { epoch, offset: 6 })).toEqual({ head, messages: [], continuous: false })
    const elsewhere = await history.read('a', { epoch: 'another', offset: 3 })
    expect(elsewhere).toMatchObject({ head, continuous: false })
    expect(stored(elsewhere.messages)).toEqual(upTo(5).map(String))
    expect(await history.read('b', head)).toEqual({ head: null, messages: [], continuous: false })
  })

  test('only the last messages are kept, exactly as many as allowed; offsets go on', async () => {
    const [{ history, ...member }] = await join(1)
    const { epoch } = await fill({ history, ...member }, 'a', 10, { ...bounds, size: 3 })
    const before = await history.read('a', { epoch, offset: 6 })
    expect([stored(before.messages), before.continuous]).toEqual([['8', '9', '10'], false])
    const covered = await history.read('a', { epoch, offset: 7 })
    expect([stored(covered.messages), covered.continuous]).toEqual([['8', '9', '10'], true])
    const next = await history.publish('a', Buffer.from('11'), true, { ...bounds, size: 1 })
    expect(next).toEqual({ epoch, offset: 11 })
    const shrunk = await history.read('a', { epoch, offset: 0 })
    expect([stored(shrunk.messages), shrunk.continuous]).toEqual([['11'], false])
    await fill({ history, ...member }, 'a', 4, bounds)
    expect(stored((await history.read('a', { epoch, offset: 0 })).messages)).toEqual([
      '11',
      '1',
      '2',
      '3',
      '4',
    ])
  })

  test('it is forgotten some time after its last message; then another epoch counts from 1', async () => {
    const [{ history }] = await join(1)
    const short = { size: 10, ttlMs: 250 }
    const first = await history.publish('a', Buffer.from('1'), true, short)
    // Each message makes it live longer.
    await history.publish('b', Buffer.from('kept'), true, short)
    const kept = await history.publish('b', Buffer.from('kept'), true, bounds)
    await expect.poll(async () => (await history.read('a', null)).head, { timeout: 20_000 }).toBeNull()
    expect((await history.read('b', null)).head).toEqual(kept)
    const second = await history.publish('a', Buffer.from('2'), true, bounds)
    expect(second.offset).toBe(1)
    expect(second.epoch).not.toBe(first.epoch)
    const read = await history.read('a', first)
    expect(read).toMatchObject({ head: second, continuous: false })
    expect(stored(read.messages)).toEqual(['2'])
  })

  // In a Redis Cluster the braces say where a channel and its keys are.
  test.each([
    'a',
    'a}b',
    '}{',
    '{}a',
    '{}a{b}',
    '{a}',
    'open{',
    'x{{a}}y',
    '{a}{b}',
    '{ü 🌊}',
    'x'.repeat(255),
  ])('a channel named %j has a history', async (channel) => {
    const [sender, receiver] = await join(2)
    const recorder = await recordChannel(receiver, channel)
    const { epoch } = await fill(sender, channel, 3)
    await recorder.until((items) => items.length === 3)
    expect(recorder.items.map(({ position }) => position?.offset)).toEqual([1, 2, 3])
    const read = await receiver.history.read(channel, { epoch, offset: 1 })
    expect([stored(read.messages), read.continuous]).toEqual([['2', '3'], true])
  })

  test('what is published without history passes beside it', async () => {
    const [sender, receiver] = await join(2)
    const recorder = await recordChannel(receiver, 'a')
    await fill(sender, 'a', 1)
    await sender.bus.publish('a', Buffer.from('plain'), true)
    await fill(sender, 'a', 1)
    await recorder.until((items) => items.length === 3)
    expect(recorder.items.map(({ position }) => position?.offset ?? null)).toEqual([1, null, 2])
    expect((await receiver.history.read('a', null)).head?.offset).toBe(2)
  })

  test('a long history is read as a whole; of one that is too large, the newest part', async () => {
    const [{ history, ...member }] = await join(1)
    const large = 'x'.repeat(300 * 1024)
    const { epoch } = await fill({ history, ...member }, 'a', 10, bounds, large)
    const whole = await history.read('a', { epoch, offset: 0 })
    expect([whole.messages.length, whole.continuous]).toEqual([10, true])
    await fill({ history, ...member }, 'a', 20, bounds, large)
    const part = await history.read('a', { epoch, offset: 0 })
    expect(part).toMatchObject({ head: { epoch, offset: 30 }, continuous: false })
    expect(part.messages.length).toBeGreaterThanOrEqual(13)
    expect(part.messages.length).toBeLessThan(20)
    expect(part.messages.map(({ position }) => position.offset)).toEqual(
      upTo(30).slice(-part.messages.length),
    )
    await fill({ history, ...member }, 'b', 9_000, { ...bounds, size: 10_000 })
    const { head } = await history.read('b', null)
    const many = await history.read('b', { ...head!, offset: 0 })
    expect([many.messages.length, many.continuous]).toEqual([9_000, true])
  })

  test('mistakes have codes', async () => {
    const [member] = await join(1)
    const { history } = member
    const publish = (channel: string, payload: Buffer, change: Partial<typeof bounds> = {}) =>
      history.publish(channel, payload, true, { ...bounds, ...change })
    const x = Buffer.from('x')
    await expect(publish('', x)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(publish('a', Buffer.from([0xff]))).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(publish('a', Buffer.alloc(defaultLimits.messageBytes + 1))).rejects.toMatchObject({
      code: 'TOO_LARGE',
    })
    for (const size of [0, 1.5, 10_001])
      await expect(publish('a', x, { size })).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    for (const ttlMs of [0, 0.5, 2 ** 31])
      await expect(publish('a', x, { ttlMs })).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(history.read('', null)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    expect((await history.read('a', null)).head).toBeNull()
    await member.close()
    await expect(publish('a', x)).rejects.toMatchObject({ code: 'NOT_READY' })
    await expect(history.read('a', null)).rejects.toMatchObject({ code: 'NOT_READY' })
  })
}

/** Publishes 1 to `count`, each followed by the padding. */
async function fill(
  { history }: Pick<TestMember, 'history'>,
  channel: string,
  count: number,
  within = bounds,
  padding = '',
): Promise<Position> {
  const positions: Position[] = []
  // Not more at once than may wait for an answer.
  for (let done = 0; done < count; done += 1_000) {
    const numbers = upTo(count).slice(done, done + 1_000)
    const published = numbers.map((n) => history.publish(channel, Buffer.from(n + padding), true, within))
    positions.push(...(await Promise.all(published)))
  }
  return positions[0]!
}

function stored(messages: readonly HistoryMessage[]): string[] {
  return messages.map(({ payload }) => payload.toString())
}

/** 1 to n. */
function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, index) => index + 1)
}
