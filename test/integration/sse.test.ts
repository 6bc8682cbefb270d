import { request } from 'node:http'
import type { Session } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

async function openStream(gateway: TestGateway) {
  const stream = await SseStream.open(gateway.httpUrl)
  const known = await stream.session()
  const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    postTo(gateway.httpUrl, known, body, headers)
  return { stream, ...known, post }
}

const sessionsOf = (gateway: TestGateway) => gateway.operator.sessions().sessions

test('a session over SSE: messages up by POST, down as events', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const { stream, session, post } = await openStream(gateway)
  expect(stream.response.headers).toMatchObject({
    'content-type': 'text/event-stream',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  })
  expect(stream.response.headers).not.toHaveProperty('content-encoding')
  expect(stream.events[0]).toMatchObject({ type: 'session' })
  expect(stream.retryMs).toBeGreaterThanOrEqual(100)

  expect((await post('one')).status).toBe(202)
  await post('two\nlines\r\nand more')
  await post(new Uint8Array([1, 2, 255]), { 'content-type': 'application/octet-stream' })
  expect(await stream.next()).toMatchObject({ data: 'one' })
  expect(await stream.next()).toMatchObject({ data: 'two\nlines\nand more' })
  expect(await stream.next('binary')).toMatchObject({ data: 'AQL/' })
  const ids = stream.events.map(({ lastEventId }) => lastEventId.split('.'))
  expect(ids.map(([, , n]) => n)).toEqual(['0', '1', '2', '3'])
  expect(new Set(ids.map(([id]) => id))).toEqual(new Set([session]))
})

test('202 means that the node has committed', async () => {
  const gateway = await startTestGateway()
  let letGo = () => {}
  await startTestNode(gateway, { message: () => new Promise<void>((resolve) => (letGo = resolve)) })
  const { post } = await openStream(gateway)
  let answered = false
  const posted = post('slow').then((response) => {
    answered = true
    return response.status
  })
  await expect.poll(() => sessionsOf(gateway)[0]?.uncommitted).toBe(1)
  expect(answered).toBe(false)
  letGo()
  expect(await posted).toBe(202)
})

test('an Idempotency-Key delivers once', async () => {
  const gateway = await startTestGateway()
  const got: unknown[] = []
  await startTestNode(gateway, { message: (_session, data) => void got.push(data) })
  const { post } = await openStream(gateway)
  const key = { 'idempotency-key': 'k1' }
  const answers = await Promise.all([post('once', key), post('once', key), post('once', key)])
  expect(answers.map((answer) => answer.status)).toEqual([202, 202, 202])
  await post('other', { 'idempotency-key': 'k2' })
  expect((await post('once', key)).status).toBe(202)
  expect(got).toEqual(['once', 'other'])
})

test('bad posts get their documented answer and reach no node', async () => {
  const gateway = await startTestGateway()
  const got: unknown[] = []
  await startTestNode(gateway, { message: (_session, data) => void got.push(data) })
  const { session, token, post } = await openStream(gateway)
  const url = `${gateway.httpUrl}/sse/${session}`
  const status = async (target: string, init: RequestInit) => {
    const response = await fetch(target, { method: 'POST', ...init })
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    return response.status
  }
  const auth = { authorization: `Bearer ${token}` }
  expect(await status(url, { body: 'x' })).toBe(401)
  expect(await status(url, { body: 'x', headers: { authorization: 'Bearer wrong' } })).toBe(403)
  expect(await status(`${gateway.httpUrl}/sse/nobody`, { body: 'x', headers: auth })).toBe(404)
  expect(await status(url, { method: 'PATCH', body: 'x', headers: auth })).toBe(405)
  expect(await status(url, { body: 'x', headers: { ...auth, origin: 'https://evil.example' } })).toBe(403)
  expect(await status(url, { body: 'x', headers: { ...auth, 'idempotency-key': 'k'.repeat(300) } })).toBe(400)
  expect((await post(new Uint8Array(1024 * 1024 + 1)).catch(() => ({ status: 413 }))).status).toBe(413)
  expect(got).toEqual([])
})

test('a session over SSE moves, and ends when its client says so', async () => {
  const gateway = await startTestGateway()
  const answer = (id: string) => ({
    message(session: Session) {
      const count = Number(session.state ?? 0) + 1
      session.state = count
      session.send(`${id}${count}`)
    },
  })
  await startTestNode(gateway, answer('a'), { id: 'a' })
  const { stream, session, token, post } = await openStream(gateway)
  await post('x')
  await startTestNode(gateway, answer('b'), { id: 'b' })
  gateway.operator.migrate(session, 'b')
  await expect.poll(() => gateway.operator.session(session).node).toBe('b')
  await post('x')
  expect([(await stream.next()).data, (await stream.next()).data]).toEqual(['a1', 'b2'])
  const left = await fetch(`${gateway.httpUrl}/sse/${session}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${token}` },
  })
  expect(left.status).toBe(204)
  await stream.end()
  await expect.poll(() => sessionsOf(gateway)).toEqual([])
})

test('the node can close the stream, and EventSource is told not to come back', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, { message: (session) => session.close(4001, 'done') })
  const { stream, post } = await openStream(gateway)
  await post('x')
  expect(await stream.next('close')).toMatchObject({ data: '{"code":4001,"reason":"done"}' })
  await stream.end()
  const again = await SseStream.open(gateway.httpUrl, { lastEventId: stream.lastEventId })
  expect(again.response.statusCode).toBe(204)
})

test('a node whose handler fails: the client comes back, to a new session', async () => {
  const gateway = await startTestGateway({ limits: { seekUnlinkedMs: 100 } })
  await startTestNode(gateway, {
    message() {
      throw new Error('on purpose')
    },
  })
  const { stream, session, post } = await openStream(gateway)
  await post('x')
  expect(await stream.next('close')).toMatchObject({ data: expect.stringContaining('"code":1011') })
  await stream.end()
  const again = await SseStream.open(gateway.httpUrl, { lastEventId: stream.lastEventId })
  const known = await again.session()
  expect(known).toMatchObject({ recovered: false, reason: 'unknown' })
  expect(known.session).not.toBe(session)
})

test('comments keep the stream alive', async () => {
  const gateway = await startTestGateway({ limits: { sseHeartbeatMs: 30 } })
  await startTestNode(gateway, echo)
  const response = await fetch(`${gateway.httpUrl}/sse`)
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.split(': hb\n\n').length > 3) break
  }
})

test('without a node: EventSource is held, others are refused', async () => {
  const gateway = await startTestGateway({ limits: { holdMs: 300 } })
  const refused = await SseStream.open(gateway.httpUrl)
  expect(refused.response.statusCode).toBe(503)
  const held = await SseStream.open(gateway.httpUrl, { headers: { accept: 'text/event-stream' } })
  expect(held.response.statusCode).toBe(200)
  expect(await held.next('close')).toMatchObject({ data: expect.stringContaining('"code":1013') })
  await held.end()
  expect(held.lastEventId).toBe('')
  const patient = await SseStream.open(gateway.httpUrl, { headers: { accept: 'text/event-stream' } })
  await startTestNode(gateway, echo)
  expect(await patient.session()).toMatchObject({ recovered: null })
})

test('other origins: refused, or told what they may do', async () => {
  const gateway = await startTestGateway({ allowedOrigins: ['https://app.example'] })
  await startTestNode(gateway, echo)
  const headers = { origin: 'https://app.example' }
  const stream = await SseStream.open(gateway.httpUrl, { headers })
  expect(stream.response.headers['access-control-allow-origin']).toBe('https://app.example')
  const asked = await fetch(`${gateway.httpUrl}/sse`, { method: 'OPTIONS', headers })
  expect(asked.status).toBe(204)
  expect(asked.headers.get('access-control-allow-headers')).toBe('authorization, last-event-id')
  const foreign = await SseStream.open(gateway.httpUrl, { headers: { origin: 'https://evil.example' } })
  expect(foreign.response.statusCode).toBe(403)
})

test('too many messages wait: 429, and what was taken is handled', async () => {
  const gateway = await startTestGateway({ limits: { inboxMessages: 4 } })
  const gate = Promise.withResolvers<void>()
  const got: unknown[] = []
  await startTestNode(gateway, {
    message(_session, data) {
      got.push(data)
      return gate.promise
    },
  })
  const { post } = await openStream(gateway)
  const statuses: number[] = []
  const posts = Array.from({ length: 10 }, async (_, i) => {
    const response = await post(`${i}`)
    if (response.status === 429) expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    statuses.push(response.status)
  })
  await expect.poll(() => statuses.filter((status) => status === 429)).toHaveLength(6)
  gate.resolve()
  await Promise.all(posts)
  expect(statuses.filter((status) => status === 202)).toHaveLength(4)
  expect(got).toHaveLength(4)
})

test('posts whose bodies come slowly: as many are read at once as may be, and no more are taken than there is room for', async () => {
  const gateway = await startTestGateway({ limits: { inboxMessages: 4 } })
  const got: string[] = []
  await startTestNode(gateway, {
    message(_session, data) {
      got.push(String(data))
      return new Promise(() => {})
    },
  })
  const { session, token } = await openStream(gateway)
  const statuses: number[] = []
  const posts = Array.from({ length: 17 }, () => {
    const post = request(`${gateway.httpUrl}/sse/${session}`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${token}`, 'content-length': '4' },
    })
    onTestFinished(() => void post.destroy())
    post.on('response', ({ statusCode }) => statuses.push(statusCode!)).on('error', () => {})
    post.write('sl')
    return post
  })
  await expect.poll(() => statuses).toEqual([429])
  for (const post of posts) post.end('ow')
  await expect.poll(() => statuses).toHaveLength(13)
  expect(new Set(statuses)).toEqual(new Set([429]))
  expect(sessionsOf(gateway)[0]!.uncommitted).toBe(4)
  expect(got).toEqual(['slow'])
})
