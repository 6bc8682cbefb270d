import { setTimeout as pause } from 'node:timers/promises'
import { type ClientOptions, connect, type PlacedRunEvent, type Run, RunError } from 'evenkeel/client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { NoWebSocket } from '../support/no-web-socket.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { RoundRobin } from '../support/round-robin.ts'
import { count, numbers, startRunNode, tell, wholeText, words } from '../support/run-nodes.ts'

/** Runs as the client library reads them, with real gateways and producers (PROTOCOL.md §2.2). */

function listen(url: string, options: ClientOptions = {}) {
  const client = connect(url, { random: () => 0, ...options })
  onTestFinished(() => client.close())
  return client
}

async function read(
  run: Run,
  each: (event: PlacedRunEvent) => unknown = () => {},
): Promise<PlacedRunEvent[]> {
  const events: PlacedRunEvent[] = []
  for await (const event of run) {
    events.push(event)
    await each(event)
  }
  return events
}

const failure = (run: Run) =>
  read(run).then(
    () => null,
    (error) => error as RunError,
  )

/** Sessions need a node too, runs or not. */
async function stage(runs: Parameters<typeof startRunNode>[1], limits = {}) {
  const gateway = await startTestGateway({ limits })
  await startTestNode(gateway, { message: (session, data) => void session.send(data) }, { id: 'sessions' })
  if (Object.keys(runs).length > 0) await startRunNode([gateway], runs)
  return gateway
}

describe.each([
  ['WebSocket', {}],
  ['HTTP', { WebSocket: NoWebSocket }],
] as [string, ClientOptions][])('over %s', (_, options) => {
  test('a run is an iterator of its events, and its text grows as they are read', async () => {
    const gateway = await stage({ story: tell })
    const run = listen(gateway.wsUrl, options).run('story', { prompt: 'x' })
    expect([run.id, run.offset, run.status, run.text]).toEqual([null, null, 'queued', ''])
    const texts: string[] = []
    const events = await read(run, () => texts.push(run.text))
    expect(run.text).toBe(wholeText)
    expect(texts.every((text, index) => index === 0 || text.startsWith(texts[index - 1]!))).toBe(true)
    expect(events[0]).toMatchObject({ type: 'run', run: run.id })
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'complete', usage: { tokens: words.length } })
    expect([run.status, run.offset]).toEqual(['ended', events.at(-1)!.offset])
  })

  test('cut connections cost nothing and double nothing', async () => {
    const gates = Object.fromEntries([50, 100, 150].map((at) => [at, Promise.withResolvers<void>()]))
    const waits = Object.fromEntries(Object.entries(gates).map(([at, { promise }]) => [at, promise]))
    const gateway = await stage({ story: count(200, waits) })
    const balancer = await RoundRobin.listen([gateway.publicPort])
    const client = listen(balancer.wsUrl, options)
    const run = client.run('story', {})
    let welcomes = 0
    client.on('session', () => {
      welcomes++
      // Only now is the run asked to go on: so each part comes over another connection.
      if (welcomes > 1) gates[50 * (welcomes - 1)]!.resolve()
    })
    const deltas: string[] = []
    await read(run, (event) => {
      if (event.type !== 'delta') return
      deltas.push(event.offset)
      const next = [50, 100, 150].find((at) => run.text === numbers(at + 1))
      if (next !== undefined) balancer.cut()
    })
    expect(run.text).toBe(numbers(200))
    expect(new Set(deltas).size).toBe(deltas.length)
    expect(welcomes).toBe(4)
  })

  test('cancel ends it for all who read it', async () => {
    const gateway = await stage({ story: count(10, { 4: new Promise(() => {}) }) })
    const run = listen(gateway.wsUrl, options).run('story', {})
    const events = await read(run, () => {
      if (run.text === numbers(5)) run.cancel()
    })
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'cancelled' })
    expect(run.text).toBe(numbers(5))
  })
})

test('a page that was reloaded names its run by the key, or by its id, and has all of it', async () => {
  const gate = Promise.withResolvers<void>()
  let made = 0
  const gateway = await stage({
    async *story(request) {
      made++
      yield* count(30, { 9: gate.promise })(request, {} as never) as AsyncIterable<string>
    },
  })
  const before = listen(gateway.wsUrl)
  const first = before.run('story', { n: 1 }, { key: 'chat-1/turn-2' })
  for await (const _ of first) if (first.text === numbers(10)) break
  before.close()

  const after = listen(gateway.wsUrl)
  const byKey = after.run('story', { n: 1 }, { key: 'chat-1/turn-2' })
  const byId = after.attach(first.id!)
  const onward = after.attach(first.id!, first.offset)
  const reading = Promise.all([byKey, byId, onward].map((run) => read(run)))
  gate.resolve()
  await reading
  expect([byKey.text, byId.text]).toEqual([numbers(30), numbers(30)])
  expect(first.text + onward.text).toBe(numbers(30))
  expect([byKey.id, made]).toEqual([first.id, 1])
  // Nothing follows the end.
  expect(await read(after.attach(first.id!, byId.offset))).toEqual([])
})

test('to leave the loop is not to cancel', async () => {
  const gate = Promise.withResolvers<void>()
  const gateway = await stage({ story: count(30, { 9: gate.promise }) })
  const client = listen(gateway.wsUrl)
  const run = client.run('story', {})
  for await (const _ of run) if (run.text === numbers(3)) break
  gate.resolve()
  const again = client.attach(run.id!)
  expect((await read(again)).at(-1)).toMatchObject({ type: 'end', reason: 'complete' })
  expect(again.text).toBe(numbers(30))
})

test('but it is for a run that is attached to its readers', async () => {
  const aborted = Promise.withResolvers<void>()
  const gateway = await stage({
    async *story(_, { signal }) {
      signal.addEventListener('abort', () => aborted.resolve())
      yield 'begun'
      await aborted.promise
    },
  })
  const run = listen(gateway.wsUrl).run('story', {}, { mode: 'attached' })
  for await (const event of run) if (event.type === 'delta') break
  await aborted.promise
})

test('who does not read holds up neither the run nor anything else on the connection', async () => {
  const chunk = 'x'.repeat(1024)
  let made = 0
  const gateway = await stage({
    async *big() {
      for (; made < 2_000; made++) yield chunk
    },
    story: tell,
  })
  const client = listen(gateway.wsUrl)
  const slow = client.run('big', {})
  await expect.poll(() => made, { timeout: 20_000 }).toBe(2_000)
  const quick = client.run('story', {})
  await read(quick)
  expect(quick.text).toBe(wholeText)
  await client.send('and messages')
  // So much has come, and no more, until somebody reads.
  expect(slow.credit).toBe(0)
  await pause(200)
  await read(slow)
  expect(slow.text.length).toBe(2_000 * 1024)
})

describe('what ends otherwise', () => {
  test('a run that fails', async () => {
    const gateway = await stage({
      async *story() {
        yield 'so far'
        throw new Error('the model is gone')
      },
    })
    const run = listen(gateway.wsUrl).run('story', {})
    const error = await failure(run)
    expect(error).toBeInstanceOf(RunError)
    expect(error).toMatchObject({
      code: 'HANDLER_FAILED',
      message: expect.stringContaining('the model is gone'),
    })
    expect([run.text, run.status]).toEqual(['so far', 'ended'])
  })

  test('a run that nobody knows, a key that was used otherwise, a client that is closed', async () => {
    const gateway = await stage({ story: tell })
    const client = listen(gateway.wsUrl)
    expect(await failure(client.attach('nobody'))).toMatchObject({ code: 'NOT_FOUND', retryable: false })
    await read(client.run('story', 1, { key: 'k' }))
    expect(await failure(client.run('story', 2, { key: 'k' }))).toMatchObject({ code: 'CONFLICT' })
    const last = failure(client.run('story', 3))
    client.close()
    expect(await last).toMatchObject({ code: 'GONE' })
    expect(await failure(client.run('story', 4))).toMatchObject({ code: 'GONE' })
  })

  test('too many that wait, and too many at once', async () => {
    const gateway = await stage({}, { runQueueDepth: 1, runStreams: 3 })
    const client = listen(gateway.wsUrl)
    const runs = [1, 2, 3, 4, 5].map((n) => client.run('nobody-makes-it', n))
    const errors = await Promise.all(runs.map((run) => Promise.race([failure(run), pause(1_500, null)])))
    const refused = errors.filter((error) => error?.code === 'TOO_MANY_REQUESTS')
    expect(refused.length).toBeGreaterThanOrEqual(2)
    expect(refused.some((error) => error!.retryAfterMs !== null)).toBe(true)
  })
})

test('no more is sent than was granted, one frame apart, and the rest follows from the log', async () => {
  const chunk = 'x'.repeat(1024)
  let made = 0
  const gateway = await stage({
    async *big() {
      for (; made < 1_000; made++) yield chunk
    },
  })
  const client = await RawResumableClient.connect(gateway.wsUrl)
  client.send('s{"id":1,"name":"big","body":1,"credit":10000}')
  await expect.poll(() => made, { timeout: 20_000 }).toBe(1_000)
  // What comes after all that would have come.
  client.send('p')
  await client.frame('p')
  const events = () => client.frames.filter((frame) => frame.startsWith('e'))
  const bytes = () => events().reduce((sum, frame) => sum + frame.length, 0)
  expect(bytes()).toBeGreaterThan(1_000)
  expect(bytes()).toBeLessThan(10_000 + 70 * 1024)
  for (let round = 1; !events().at(-1)!.includes('"type":"end"'); round++) {
    const before = events().length
    client.send('k1 100000')
    await client.frame('e', before + 1)
    client.send('p')
    await client.frame('p', round + 1)
    expect(bytes()).toBeLessThan(10_000 + round * 100_000 + 70 * 1024)
  }
  const data = events().flatMap(
    (frame) => JSON.parse(frame.slice(1)).events as { type: string; data?: string }[],
  )
  expect(data.map((event) => (event.type === 'delta' ? event.data : '')).join('').length).toBe(1_000 * 1024)
})

test('frames about runs that are not allowed cost the connection, and no other client notices', async () => {
  const gateway = await stage({ story: tell })
  const start = '{"id":1,"name":"story","body":1,"credit":0}'
  const bad: string[][] = [
    ['s'],
    ['s{"id":0,"name":"story","body":1,"credit":1}'],
    ['s{"id":1,"name":"story","credit":1}'],
    [`s${start}`, `s${start}`],
    ['t{"id":1,"run":"","after":null,"credit":1}'],
    ['k1 5'],
    [`s${start}`, 'k1'],
    [`s${start}`, 'k1 -5'],
    ['x1'],
    ['d'],
  ]
  for (const frames of bad) {
    const client = await RawResumableClient.connect(gateway.wsUrl)
    for (const frame of frames) client.send(frame)
    expect([frames, await client.ended]).toMatchObject([frames, { code: 4100 }])
  }
  const run = listen(gateway.wsUrl).run('story', {})
  await read(run)
  expect(run.text).toBe(wholeText)
})
