import { expect, onTestFinished, test } from 'vitest'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

interface SseEvent {
  event: string
  data: string
  id: string | null
}

async function openStream(gateway: TestGateway) {
  const aborter = new AbortController()
  onTestFinished(() => aborter.abort())
  const response = await fetch(`${gateway.httpUrl}/sse`, { signal: aborter.signal })
  const events = readEvents(response)
  const first = (await events.next()).value!
  const { session, token } = JSON.parse(first.data) as { session: string; token: string }
  const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${gateway.httpUrl}/sse/${session}`, {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'text/plain', ...headers },
    })
  return { response, events, first, session, token, post, abort: () => aborter.abort() }
}

async function* readEvents(response: Response): AsyncGenerator<SseEvent> {
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const fields = text
        .slice(0, end)
        .split('\n')
        .filter((line) => !line.startsWith(':'))
      text = text.slice(end + 2)
      if (fields.length === 0) continue
      const value = (name: string) =>
        fields.filter((f) => f.startsWith(`${name}: `)).map((f) => f.slice(name.length + 2))
      yield {
        event: value('event')[0] ?? 'message',
        data: value('data').join('\n'),
        id: value('id')[0] ?? null,
      }
    }
  }
}

test('a session over SSE: messages up by POST, down as events', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo)
  const { response, first, events, post } = await openStream(gateway)
  expect(response.headers.get('content-type')).toBe('text/event-stream')
  expect(first.event).toBe('session')

  expect((await post('one')).status).toBe(202)
  expect((await events.next()).value).toEqual({ event: 'message', data: 'one', id: '1' })
  await post('two\nlines\r\nand more')
  expect((await events.next()).value).toEqual({ event: 'message', data: 'two\nlines\nand more', id: '2' })
  await post(new Uint8Array([1, 2, 255]), { 'content-type': 'application/octet-stream' })
  expect((await events.next()).value).toEqual({ event: 'binary', data: 'AQL/', id: '3' })
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
  await expect.poll(() => gateway.operator.sessions().sessions[0]?.uncommitted).toBe(1)
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
  expect(await status(url, { method: 'PUT', body: 'x', headers: auth })).toBe(405)
  expect(await status(url, { body: 'x', headers: { ...auth, origin: 'https://evil.example' } })).toBe(403)
  expect(await status(url, { body: 'x', headers: { ...auth, 'idempotency-key': 'k'.repeat(300) } })).toBe(400)
  expect((await post(new Uint8Array(1024 * 1024 + 1)).catch(() => ({ status: 413 }))).status).toBe(413)
  expect(got).toEqual([])
})

test('a session over SSE moves, and ends when its stream does', async () => {
  const gateway = await startTestGateway()
  const answer = (id: string) => ({
    message(session: import('evenkeel/sdk').Session) {
      const count = Number(session.state ?? 0) + 1
      session.state = count
      session.send(`${id}${count}`)
    },
  })
  await startTestNode(gateway, answer('a'), { id: 'a' })
  const { events, session, post, abort } = await openStream(gateway)
  await post('x')
  await startTestNode(gateway, answer('b'), { id: 'b' })
  gateway.operator.migrate(session, 'b')
  await expect.poll(() => gateway.operator.session(session).node).toBe('b')
  await post('x')
  expect([(await events.next()).value!.data, (await events.next()).value!.data]).toEqual(['a1', 'b2'])
  abort()
  await expect.poll(() => gateway.operator.sessions().sessions).toEqual([])
})

test('the node can close the stream', async () => {
  const gateway = await startTestGateway()
  await startTestNode(gateway, { message: (session) => session.close(4001, 'done') })
  const { events, post } = await openStream(gateway)
  await post('x')
  expect((await events.next()).value).toMatchObject({ event: 'close', data: '{"code":4001,"reason":"done"}' })
  expect((await events.next()).done).toBe(true)
})
