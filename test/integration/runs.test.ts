import {
  createNode,
  type EvenkeelNode,
  type NodeOptions,
  type RunHandler,
  type RunOptions,
} from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { RunsRefused } from '../../src/gateway/run-types.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { TestReader } from '../support/run-reader.ts'

const quiet = { info() {}, warn() {}, error() {} }

async function startProducer(
  gateway: Pick<TestGateway, 'linkUrl'>,
  handler: RunHandler,
  options: RunOptions & Partial<NodeOptions> = {},
): Promise<EvenkeelNode> {
  const { onLoss, concurrency, ...rest } = options
  const node = createNode({
    id: 'p1',
    gateways: [gateway.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
    ...rest,
  })
  node.run('story', handler, { ...(onLoss && { onLoss }), ...(concurrency && { concurrency }) })
  onTestFinished(() => node.stop())
  await node.start()
  return node
}

function story(
  request: unknown = {},
  idempotencyKey: string | null = null,
  mode: 'durable' | 'attached' = 'durable',
) {
  return { pool: 'default', name: 'story', requestJson: JSON.stringify(request), idempotencyKey, mode }
}

const words = ['Once', ' upon', ' a', ' time', ',', ' \u2028\r\n\0', ' naïve 🙂.']

async function* tell() {
  for (const word of words) yield word
  return { tokens: words.length }
}

test('a run streams to a reader, and ends', async () => {
  const gateway = await startTestGateway()
  await startProducer(gateway, tell)
  const { run, created } = await gateway.runs.start(story())
  expect(created).toBe(true)
  const reader = await TestReader.open(gateway.runs, run)
  expect(await reader.ended()).toEqual({ type: 'end', reason: 'complete', usage: { tokens: words.length } })
  expect(reader.text).toBe(words.join(''))
  expect(reader.events[0]).toMatchObject({ type: 'run', run })
  expect(reader.events.some(({ type }) => type === 'fence')).toBe(false)
  expect(await gateway.runs.status(run)).toEqual({ run, status: 'ended', outcome: 'complete', offset: '1-8' })
  // A second reader gets all of it, joined, and one that has it all gets nothing.
  const second = await TestReader.open(gateway.runs, run)
  await second.ended()
  expect(second.text).toBe(words.join(''))
  expect(second.events.map(({ type }) => type)).toEqual(['run', 'delta', 'end'])
  expect((await TestReader.open(gateway.runs, run, '1-8')).opened).toEqual({ verdict: 'over' })
  const third = await TestReader.open(gateway.runs, run, '1-3')
  await third.ended()
  expect(third.text).toBe(words.slice(3).join(''))
})

test('many readers of one run, from any offset, share what is encoded', async () => {
  const gateway = await startTestGateway()
  const gate = Promise.withResolvers<void>()
  await startProducer(gateway, async function* () {
    for (let i = 0; i < 10; i++) yield `a${i} `
    await gate.promise
    for (let i = 0; i < 10; i++) {
      yield `b${i} `
      await new Promise(setImmediate)
    }
  })
  const { run } = await gateway.runs.start(story())
  const first = await TestReader.open(gateway.runs, run)
  await first.until(() => first.text.includes('a9'))
  const readers = await Promise.all(
    [null, '0-0', '1-0', '1-4', '1-10'].map((after) => TestReader.open(gateway.runs, run, after)),
  )
  gate.resolve()
  await Promise.all([first, ...readers].map((reader) => reader.ended()))
  const whole = first.text
  const starts = [0, 0, 0, 12, 30]
  for (const [i, reader] of readers.entries()) expect(reader.text).toBe(whole.slice(starts[i]))
  const last = first.batches.at(-1)
  for (const reader of readers) expect(reader.batches.at(-1)).toBe(last)
})

test('an idempotency key names one run', async () => {
  const gateway = await startTestGateway()
  let calls = 0
  await startProducer(gateway, async function* () {
    calls++
    yield 'x'
  })
  const first = await gateway.runs.start(story({ a: 1 }, 'key'))
  const again = await gateway.runs.start(story({ a: 1 }, 'key'))
  expect(again).toEqual({ run: first.run, created: false })
  await (await TestReader.open(gateway.runs, first.run)).ended()
  expect(calls).toBe(1)
  await expect(gateway.runs.start(story({ a: 2 }, 'key'))).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('cancel ends the run at once and aborts its handler', async () => {
  const gateway = await startTestGateway()
  const aborted = Promise.withResolvers<void>()
  await startProducer(gateway, async function* (_request, { signal }) {
    signal.addEventListener('abort', () => aborted.resolve())
    for (let i = 0; !signal.aborted; i++) {
      yield `${i} `
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  })
  const { run } = await gateway.runs.start(story())
  const reader = await TestReader.open(gateway.runs, run)
  await reader.until(() => reader.text.length > 4)
  expect(await gateway.runs.cancel(run)).toMatchObject({ status: 'ended', outcome: 'cancelled' })
  expect(await reader.ended()).toEqual({ type: 'end', reason: 'cancelled' })
  await aborted.promise
  expect(await gateway.runs.cancel(run)).toMatchObject({ outcome: 'cancelled' })
  await expect(gateway.runs.cancel('unknown')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('an attached run is cancelled when its last reader leaves, a durable one goes on', async () => {
  const gateway = await startTestGateway()
  const gate = Promise.withResolvers<void>()
  let aborted = 0
  await startProducer(gateway, async function* (_request, { signal }) {
    signal.addEventListener('abort', () => aborted++)
    yield 'x'
    await Promise.race([gate.promise, new Promise((resolve) => signal.addEventListener('abort', resolve))])
    yield 'y'
  })
  const attached = await gateway.runs.start(story({}, null, 'attached'))
  const durable = await gateway.runs.start(story())
  for (const { run } of [attached, durable]) {
    const reader = await TestReader.open(gateway.runs, run)
    await reader.until(() => reader.text === 'x')
    reader.handle.close()
  }
  const watcher = await TestReader.open(gateway.runs, attached.run)
  expect(await watcher.ended()).toMatchObject({ reason: 'cancelled' })
  await expect.poll(() => aborted).toBe(1)
  gate.resolve()
  const reader = await TestReader.open(gateway.runs, durable.run)
  expect(await reader.ended()).toMatchObject({ reason: 'complete' })
  expect([reader.text, aborted]).toEqual(['xy', 1])
})

test('a handler that throws ends its run with fail', async () => {
  const gateway = await startTestGateway()
  await startProducer(gateway, async function* () {
    yield 'x'
    throw new Error('no model')
  })
  const { run } = await gateway.runs.start(story())
  const reader = await TestReader.open(gateway.runs, run)
  expect(await reader.ended()).toEqual({
    type: 'fail',
    code: 'HANDLER_FAILED',
    message: 'no model',
    retryable: false,
  })
  expect(reader.text).toBe('x')
})

test('kinds, parts and JSON come through, and texts of different parts are not joined', async () => {
  const gateway = await startTestGateway()
  await startProducer(gateway, async function* () {
    yield { kind: 'thinking', data: 'hm' }
    yield { kind: 'thinking', data: 'm' }
    yield { part: 1, data: 'a' }
    yield 'b'
    yield 'c'
    yield { kind: 'tool', data: { name: 'f', args: [1] } }
  })
  const { run } = await gateway.runs.start(story())
  await (await TestReader.open(gateway.runs, run)).ended()
  const reader = await TestReader.open(gateway.runs, run)
  await reader.ended()
  expect(reader.events.filter(({ type }) => type === 'delta')).toEqual([
    { type: 'delta', part: 0, kind: 'thinking', data: 'hmm' },
    { type: 'delta', part: 1, kind: 'text', data: 'a' },
    { type: 'delta', part: 0, kind: 'text', data: 'bc' },
    { type: 'delta', part: 0, kind: 'tool', data: { name: 'f', args: [1] } },
  ])
})

test('a slow reader costs its place only, and gets everything', async () => {
  const gateway = await startTestGateway()
  const size = 3_000_000
  await startProducer(gateway, async function* () {
    for (let made = 0; made < size; made += 1_000) yield String(made).padEnd(1_000, '.')
  })
  const { run } = await gateway.runs.start(story())
  const slow = await TestReader.open(gateway.runs, run, null, { takes: false })
  const fast = await TestReader.open(gateway.runs, run)
  await fast.ended()
  expect(fast.text).toHaveLength(size)
  expect(slow.batches).toHaveLength(1)
  let most = 0
  while (slow.closed === null) {
    const had = slow.batches.length
    slow.handle.drained()
    await slow.until(() => slow.batches.length > had || slow.closed !== null)
    most = Math.max(most, JSON.stringify(slow.batches.at(-1)!.events).length)
  }
  expect(slow.text).toBe(fast.text)
  expect(most).toBeLessThan(64 * 1024)
})

test('no more runs at once than a node makes; too many that wait are refused', async () => {
  const gateway = await startTestGateway({ limits: { runQueueDepth: 3 } })
  let now = 0
  let most = 0
  const gate = Promise.withResolvers<void>()
  const handler: RunHandler = async function* () {
    most = Math.max(most, ++now)
    await gate.promise
    yield 'x'
    now--
  }
  await startProducer(gateway, handler, { concurrency: 2 })
  const runs = []
  for (let i = 0; i < 5; i++) runs.push(await gateway.runs.start(story()))
  const refused = await gateway.runs.start(story()).catch((error: unknown) => error)
  expect(refused).toBeInstanceOf(RunsRefused)
  expect((refused as RunsRefused).retryAfterMs).toBeGreaterThanOrEqual(1_000)
  gate.resolve()
  for (const { run } of runs) await (await TestReader.open(gateway.runs, run)).ended()
  expect(most).toBe(2)
})

test('work goes to the node with the least of it, and a node that is drained gets none and finishes what it has', async () => {
  const gateway = await startTestGateway()
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const made: Record<string, number> = { p1: 0, p2: 0 }
  const start = (id: string) =>
    startProducer(
      gateway,
      async function* () {
        made[id]!++
        const gate = Promise.withResolvers<void>()
        gates.set(`${id} ${made[id]}`, gate)
        await gate.promise
        yield id
      },
      { id },
    )
  const [first] = [await start('p1'), await start('p2')]
  const runs = []
  for (let i = 0; i < 6; i++) runs.push((await gateway.runs.start(story())).run)
  const readers = await Promise.all(runs.map((run) => TestReader.open(gateway.runs, run)))
  await expect.poll(() => made).toEqual({ p1: 3, p2: 3 })
  const drained = first.drain()
  await expect.poll(() => gateway.operator.node('p1').state).not.toBe('active')
  const late = await gateway.runs.start(story())
  await expect.poll(() => made).toEqual({ p1: 3, p2: 4 })
  for (const gate of gates.values()) gate.resolve()
  await drained
  readers.push(await TestReader.open(gateway.runs, late.run))
  for (const reader of readers) expect(await reader.ended()).toMatchObject({ reason: 'complete' })
})

test('a run that no producer takes fails in time', async () => {
  const gateway = await startTestGateway({ limits: { runQueueMs: 100 } })
  const { run } = await gateway.runs.start(story())
  const reader = await TestReader.open(gateway.runs, run)
  expect(await reader.ended()).toMatchObject({ type: 'fail', code: 'QUEUED_TOO_LONG', retryable: true })
})

test('a log that grows beyond its bound ends the run', async () => {
  const gateway = await startTestGateway({ limits: { runLogBytes: 10_000 } })
  await startProducer(gateway, async function* () {
    for (;;) yield 'x'.repeat(500)
  })
  const { run } = await gateway.runs.start(story())
  const reader = await TestReader.open(gateway.runs, run)
  expect(await reader.ended()).toMatchObject({ type: 'fail', code: 'TOO_LARGE' })
  expect(reader.text.length).toBeLessThan(10_000)
})

test('a node that makes runs alone is offered no sessions', async () => {
  const gateway = await startTestGateway()
  await startProducer(gateway, tell)
  const response = await fetch(`${gateway.httpUrl}/sse`)
  expect(response.status).toBe(503)
  await response.body?.cancel()
})
