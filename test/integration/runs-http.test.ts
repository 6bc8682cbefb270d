import { once } from 'node:events'
import { request } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { EventStreamParser, type StreamEvent } from '../support/event-stream.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { count, numbers, startRunNode, tell, wholeText, words } from '../support/run-nodes.ts'

/** PROTOCOL.md §6, with a real gateway and real producers. */

type Start = { name: string; body: unknown; [field: string]: unknown }

function post(gateway: TestGateway, start: Start | string, headers: Record<string, string> = {}) {
  return fetch(`${gateway.httpUrl}/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof start === 'string' ? start : JSON.stringify(start),
  })
}

const follow = (gateway: TestGateway, run: string, query = '', headers: Record<string, string> = {}) =>
  fetch(`${gateway.httpUrl}/runs/${run}/events${query}`, { headers })

/** Reads until `enough`, or to the end. */
async function read(response: Response, enough: (events: StreamEvent[]) => boolean = () => false) {
  const parser = new EventStreamParser()
  const events: StreamEvent[] = []
  const comments: string[] = []
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    comments.push(...text.split('\n').filter((line) => line.startsWith(':')))
    events.push(...parser.push(text))
    if (enough(events)) break
  }
  return { events, comments, retryMs: parser.retryMs }
}

const textOf = (events: StreamEvent[]) =>
  events.flatMap(({ type, data }) => (type === 'delta' ? [JSON.parse(data).data] : [])).join('')

async function problem(response: Response) {
  const { status, code, detail, oldest } = (await response.json()) as Record<string, unknown>
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  expect(status).toBe(response.status)
  return { status, code, detail, ...(oldest === undefined ? {} : { oldest }) }
}

test('a run streams at once, as native events with offsets', async () => {
  const gateway = await startTestGateway()
  await startRunNode([gateway], { story: tell })
  const response = await post(gateway, { name: 'story', body: { prompt: 'x' } })
  const run = response.headers.get('x-run-id')!
  expect(response.status).toBe(200)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
  expect(response.headers.has('content-encoding')).toBe(false)
  const { events } = await read(response)
  expect(events[0]!.type).toBe('run')
  expect(JSON.parse(events[0]!.data)).toMatchObject({ run })
  expect(textOf(events)).toBe(wholeText)
  expect(JSON.parse(events.at(-1)!.data)).toEqual({
    reason: 'complete',
    usage: { tokens: words.length },
    offset: events.at(-1)!.lastEventId,
  })
  expect(events.slice(1).every(({ lastEventId }) => /^1-\d+$/.test(lastEventId))).toBe(true)
})

test('from any offset the rest follows, by Last-Event-ID or ?after=, and nothing behind the end', async () => {
  const gateway = await startTestGateway()
  await startRunNode([gateway], { story: count(50) })
  const response = await post(gateway, { name: 'story', body: {} })
  const run = response.headers.get('x-run-id')!
  const { events } = await read(response)
  const offsets = events.filter(({ type }) => type === 'delta').map(({ lastEventId }) => lastEventId)
  expect(textOf(events)).toBe(numbers(50))
  for (const offset of offsets) {
    const head = textOf(events.slice(0, events.findIndex(({ lastEventId }) => lastEventId === offset) + 1))
    const { events: rest } = await read(await follow(gateway, run, `?after=${offset}`))
    expect(head + textOf(rest)).toBe(numbers(50))
  }
  // EventSource comes back to the URL of its first request, and what it has seen is newer.
  const { events: tail } = await read(
    await follow(gateway, run, '?after=1-1', { 'last-event-id': offsets.at(-2)! }),
  )
  const seen = events.slice(0, events.findIndex(({ lastEventId }) => lastEventId === offsets.at(-2)) + 1)
  expect(textOf(seen) + textOf(tail)).toBe(numbers(50))
  expect(tail.at(-1)!.type).toBe('end')
  const over = await follow(gateway, run, '', { 'last-event-id': events.at(-1)!.lastEventId })
  expect([over.status, await over.text()]).toEqual([204, ''])
})

test('many readers of a run that is under way get the same', async () => {
  const gateway = await startTestGateway()
  const gate = Promise.withResolvers<void>()
  await startRunNode([gateway], { story: count(40, { 19: gate.promise }) })
  const first = await post(gateway, { name: 'story', body: {} })
  const run = first.headers.get('x-run-id')!
  const readers = await Promise.all(Array.from({ length: 5 }, () => follow(gateway, run)))
  const all = Promise.all([first, ...readers].map((response) => read(response)))
  gate.resolve()
  for (const { events } of await all) {
    expect(textOf(events)).toBe(numbers(40))
    expect(events.at(-1)!.type).toBe('end')
  }
})

test('one key makes one run, and another request under it is refused', async () => {
  const gateway = await startTestGateway()
  let made = 0
  await startRunNode([gateway], {
    story: async function* (request) {
      made++
      yield* tell(request, {} as never) as AsyncIterable<string>
    },
  })
  const key = { 'idempotency-key': 'turn-7' }
  const [first, second] = await Promise.all(
    [1, 2].map(() => post(gateway, { name: 'story', body: { n: 1 } }, key)),
  )
  expect(first!.headers.get('x-run-id')).toBe(second!.headers.get('x-run-id'))
  for (const response of [first!, second!]) expect(textOf((await read(response)).events)).toBe(wholeText)
  expect(made).toBe(1)
  const other = await post(gateway, { name: 'story', body: { n: 2 } }, key)
  expect(await problem(other)).toMatchObject({ status: 409, code: 'CONFLICT' })
})

test('cancel ends the run for all who read it, aborts the handler, and may be said again', async () => {
  const gateway = await startTestGateway()
  const aborted = Promise.withResolvers<void>()
  await startRunNode([gateway], {
    story: async function* (_, { signal }) {
      yield 'begun'
      signal.addEventListener('abort', () => aborted.resolve())
      await aborted.promise
    },
  })
  const response = await post(gateway, { name: 'story', body: {} })
  const run = response.headers.get('x-run-id')!
  const reading = read(response)
  const cancel = () => fetch(`${gateway.httpUrl}/runs/${run}/cancel`, { method: 'POST' })
  // Whether it had begun to speak does not matter.
  expect(await (await cancel()).json()).toMatchObject({ run, status: 'ended', outcome: 'cancelled' })
  const { events } = await reading
  expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ reason: 'cancelled' })
  expect(await (await cancel()).json()).toMatchObject({ outcome: 'cancelled' })
})

test('a reader that leaves ends an attached run, and no durable one', async () => {
  const gateway = await startTestGateway()
  const ends: string[] = []
  await startRunNode([gateway], {
    story: async function* (request, { signal }) {
      yield 'begun'
      await Promise.race([once(signal, 'abort').then(() => ends.push(String(request))), gate.promise])
    },
  })
  const gate = Promise.withResolvers<void>()
  for (const mode of ['durable', 'attached']) {
    const response = await post(gateway, { name: 'story', body: mode, mode })
    await read(response, (events) => events.some(({ type }) => type === 'delta'))
  }
  await expect.poll(() => ends).toEqual(['attached'])
  gate.resolve()
})

test('a failure says so, in words that EventSource does not take for its own', async () => {
  const gateway = await startTestGateway()
  await startRunNode([gateway], {
    story: async function* () {
      yield 'so far'
      throw new Error('the model is gone')
    },
  })
  const { events } = await read(await post(gateway, { name: 'story', body: {} }))
  expect(events.at(-1)!.type).toBe('fail')
  expect(JSON.parse(events.at(-1)!.data)).toMatchObject({
    code: 'HANDLER_FAILED',
    retryable: expect.any(Boolean),
  })
})

test('too many runs that wait are refused, with a time to come back', async () => {
  const gateway = await startTestGateway({ limits: { runQueueDepth: 1 } })
  // Nobody makes them.
  const responses: Response[] = []
  const open = new AbortController()
  onTestFinished(() => open.abort())
  for (let i = 0; i < 4; i++) {
    responses.push(
      await fetch(`${gateway.httpUrl}/runs`, {
        method: 'POST',
        body: JSON.stringify({ name: 'story', body: i }),
        signal: open.signal,
      }),
    )
  }
  const refused = responses.find(({ status }) => status !== 200)!
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  expect(await problem(refused)).toMatchObject({ status: 429, code: 'TOO_MANY_REQUESTS' })
})

test('a silent run that is alive is said to be so; headers come before the first token', async () => {
  const gateway = await startTestGateway({ limits: { runHeartbeatMs: 100 } })
  const gate = Promise.withResolvers<void>()
  onTestFinished(() => gate.resolve())
  await startRunNode([gateway], {
    story: async function* () {
      await gate.promise
      yield 'late'
    },
  })
  const response = await post(gateway, { name: 'story', body: {} })
  expect(response.status).toBe(200)
  let heard = ''
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    heard += text
    if (heard.split(': hb\n\n').length > 2) gate.resolve()
    if (heard.includes('event: end')) break
  }
  expect(heard).toContain('"late"')
})

test('a reader that does not read costs its share and is served in the end', async () => {
  const gateway = await startTestGateway()
  const chunk = 'x'.repeat(8 * 1024)
  const chunks = 1_000
  let made = 0
  await startRunNode([gateway], {
    story: async function* () {
      for (; made < chunks; made++) yield chunk
    },
  })
  const sent = request(`${gateway.httpUrl}/runs`, { method: 'POST' })
  sent.end(JSON.stringify({ name: 'story', body: {} }))
  const [response] = await once(sent, 'response')
  // A slow reader never stalls a durable run.
  await expect.poll(() => made, { timeout: 20_000 }).toBe(chunks)
  const parser = new EventStreamParser()
  let bytes = 0
  let last = ''
  for await (const piece of response.setEncoding('utf8')) {
    for (const { type, data } of parser.push(piece)) {
      if (type === 'delta') bytes += JSON.parse(data).data.length
      last = type
    }
  }
  expect([bytes, last]).toEqual([chunks * chunk.length, 'end'])
})

describe('what is not understood', () => {
  test.each([
    ['no JSON', '{', 'the body must be a JSON object {name, body, pool?, mode?}'],
    ['a list', '[]', 'the body must be a JSON object {name, body, pool?, mode?}'],
    ['no name', '{"body":1}', 'name must say which run of the node is meant'],
    ['no body', '{"name":"story"}', 'body is missing: what the node is to be given'],
    ['a pool that is no text', '{"name":"story","body":1,"pool":7}', 'pool must be a string'],
    ['another mode', '{"name":"story","body":1,"mode":"fast"}', 'mode must be durable or attached'],
  ])('%s', async (_, body, detail) => {
    const gateway = await startTestGateway()
    expect(await problem(await post(gateway, body))).toEqual({ status: 400, code: 'BAD_REQUEST', detail })
  })

  test('runs that are none, offsets that are none, other methods and pages of others', async () => {
    const gateway = await startTestGateway()
    await startRunNode([gateway], { story: tell })
    const run = (await post(gateway, { name: 'story', body: {} })).headers.get('x-run-id')!
    expect(await problem(await follow(gateway, 'nobody'))).toMatchObject({ status: 404, code: 'NOT_FOUND' })
    expect(await problem(await follow(gateway, run, '?after=x'))).toMatchObject({ status: 400 })
    expect((await fetch(`${gateway.httpUrl}/runs`)).status).toBe(405)
    expect((await fetch(`${gateway.httpUrl}/runs/${run}/other`)).status).toBe(404)
    expect((await fetch(`${gateway.httpUrl}/runs/nobody/cancel`, { method: 'POST' })).status).toBe(404)
    const foreign = { origin: 'http://evil.example' }
    expect((await post(gateway, { name: 'story', body: {} }, foreign)).status).toBe(403)
    const { runRequestBytes } = (await import('../../src/protocol/limits.ts')).defaultLimits
    const big = await post(gateway, { name: 'story', body: 'x'.repeat(runRequestBytes + 8_000) })
    expect(big.status).toBe(413)
  })

  test('browsers of another origin that is allowed may ask', async () => {
    const origin = 'http://page.example'
    const gateway = await startTestGateway({ allowedOrigins: [origin] })
    const asked = await fetch(`${gateway.httpUrl}/runs`, { method: 'OPTIONS', headers: { origin } })
    expect(asked.status).toBe(204)
    expect(asked.headers.get('access-control-allow-origin')).toBe(origin)
    expect(asked.headers.get('access-control-allow-headers')).toContain('idempotency-key')
  })
})
