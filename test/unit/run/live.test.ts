import { expect, onTestFinished, test } from 'vitest'
import { MemoryCluster } from '../../../src/cluster/memory.ts'
import { Runs } from '../../../src/gateway/runs.ts'
import { Turn } from '../../../src/gateway/turn.ts'
import { defaultLimits } from '../../../src/protocol/limits.ts'
import { TestReader } from '../../support/run-reader.ts'

const limits = { ...defaultLimits, runSilenceMs: 50, runHeartbeatMs: 50, runLeaseMs: 2_500, runQueueMs: 100 }
const lane = 'default/story'

/** Readers at one gateway of a run that others make, by hand. */
function scene(hears: boolean) {
  const cluster = new MemoryCluster({ limits })
  const member = cluster.join()
  const runs = Object.create(member.runs, {
    ...(hears ? {} : { follow: { value: async () => {} } }),
  }) as typeof member.runs
  const gateway = new Runs({
    gatewayId: 'g',
    limits,
    cluster: { ...member, runs },
    turn: new Turn(),
    now: () => performance.now(),
  })
  gateway.begin()
  onTestFinished(() => gateway.stop())
  const logs = cluster.join().runs
  const append = (epoch: number, first: number, events: unknown[], isEnd = false) =>
    logs.append('r', {
      holder: 'x',
      entry: { epoch, first, count: events.length, json: JSON.stringify(events) },
      effects: false,
      terminal: isEnd ? 'complete' : null,
    })
  const claim = (epoch: number | null = null) =>
    logs.claim('r', { holder: 'x', job: 'j', onLoss: 'continue', epoch })
  return { gateway, logs, append, claim }
}

test.each([true, false])('a reader gets everything, whether hints come (%s) or not', async (hears) => {
  const { gateway, logs, append, claim } = scene(hears)
  await logs.create('r', { lane, requestJson: '1' })
  const reader = await TestReader.open(gateway, 'r')
  await claim()
  await append(1, 1, ['a', 'b'])
  await reader.until(() => reader.text === 'ab')
  await claim(1)
  await append(2, 1, ['c'])
  await append(2, 2, [{ type: 'end', reason: 'complete' }], true)
  expect(await reader.ended()).toMatchObject({ type: 'end' })
  expect(reader.text).toBe('abc')
  expect(gateway.live.size).toBe(0)
})

test('heartbeats come while the lease holds, and no longer', async () => {
  const { gateway, logs, append, claim } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  await claim()
  await append(1, 1, ['a'])
  const reader = await TestReader.open(gateway, 'r')
  await reader.until(() => reader.heartbeats > 0)
  // Nobody renews the lease, and nobody takes the run over.
  expect(await reader.ended()).toMatchObject({ type: 'fail', code: 'PRODUCER_LOST' })
  expect(reader.heartbeats).toBeLessThanOrEqual(3)
})

test('a run that is in no queue any more fails for its readers', async () => {
  const { gateway, logs } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  const reader = await TestReader.open(gateway, 'r')
  expect(await reader.ended()).toMatchObject({ type: 'fail', code: 'QUEUED_TOO_LONG' })
})

test('of many deltas within the time of coalescing a reader gets one, and the first at once', async () => {
  const { gateway, logs, append, claim } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  await claim()
  const reader = await TestReader.open(gateway, 'r', null, { coalesceMs: 200 })
  await append(1, 1, ['a'])
  await reader.until(() => reader.text === 'a')
  for (let i = 0; i < 5; i++) {
    await append(1, 2 + i, [String(i)])
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  expect(reader.text).toBe('a')
  await append(1, 7, [{ type: 'end', reason: 'complete' }], true)
  await reader.ended()
  expect(reader.events.map((event) => (event.type === 'delta' ? event.data : event.type))).toEqual([
    'run',
    'a',
    '01234',
    'end',
  ])
})

test('a reader from the beginning may ask for a snapshot', async () => {
  const { gateway, logs, append, claim } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  await claim()
  await append(1, 1, ['a', 'b', { kind: 'thinking', data: 'c' }])
  const reader = await TestReader.open(gateway, 'r', null, { snapshot: true })
  expect(reader.batches[0]!.events.map(({ offset }) => offset)).toEqual(['0-0', '1-3'])
  expect(reader.text).toBe('abc')
  await append(1, 4, ['d'])
  await reader.until(() => reader.text === 'abcd')
})

test('offsets: gone, ahead, of a restart, of the end', async () => {
  const { gateway, logs, append, claim } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  await claim()
  await append(1, 1, ['a', 'b'])
  const ahead = await TestReader.open(gateway, 'r', '1-9')
  expect(ahead.opened).toMatchObject({ verdict: 'reset' })
  expect(ahead.events.map(({ type }) => type)).toEqual(['run', 'fence', 'delta'])
  await expect(TestReader.open(gateway, 'r', 'x')).rejects.toMatchObject({ code: 'BAD_REQUEST' })
  await expect(TestReader.open(gateway, 'nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(TestReader.open(gateway, '../r')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await append(1, 3, [{ type: 'end', reason: 'complete' }], true)
  await ahead.ended()
  expect((await TestReader.open(gateway, 'r', '1-3')).opened).toEqual({ verdict: 'over' })
  expect(gateway.live.size).toBe(0)
})

test('a log that has lost its end: readers that have more begin anew, whether they are there or come back', async () => {
  const { gateway, logs, append, claim } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  await claim()
  await append(1, 1, ['a'])
  const reader = await TestReader.open(gateway, 'r')
  // As if somebody had read three more.
  const ahead = await TestReader.open(gateway, 'r', '1-1')
  Object.assign((ahead.handle as unknown as { cursor: { place: object } }).cursor, {
    place: { epoch: 1, seq: 4 },
  })
  await claim(1)
  await append(2, 1, ['b'])
  expect((await TestReader.open(gateway, 'r', '1-4')).opened).toMatchObject({ verdict: 'reset' })
  await logs.finish('r', { type: 'end', reason: 'cancelled' }, 'live')
  for (const one of [reader, ahead]) {
    expect(await one.ended()).toEqual({ type: 'end', reason: 'cancelled' })
    expect(one.text).toBe('ab')
  }
  const late = await TestReader.open(gateway, 'r', '1-4')
  expect(late.text).toBe('ab')
  expect(late.closed).toBe('ended')
})

test('a gateway that leaves sends readers elsewhere, one after the other, and takes no more', async () => {
  const { gateway, logs } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  const readers = [await TestReader.open(gateway, 'r'), await TestReader.open(gateway, 'r')]
  gateway.leave(60)
  await readers[0]!.until(() => readers[0]!.closed === 'away')
  expect(readers[1]!.closed).toBeNull()
  await readers[1]!.until(() => readers[1]!.closed === 'away')
  await expect(TestReader.open(gateway, 'r')).rejects.toMatchObject({ code: 'DRAINING' })
})

test('a reader that the gateway leaves behind is told to go on elsewhere', async () => {
  const { gateway, logs } = scene(true)
  await logs.create('r', { lane, requestJson: '1' })
  const reader = await TestReader.open(gateway, 'r')
  gateway.stop()
  expect(reader.closed).toBe('away')
})
