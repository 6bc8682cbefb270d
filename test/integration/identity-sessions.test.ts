import { connect } from 'evenkeel/client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { startRunNode, tell } from '../support/run-nodes.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'
import { authBy, type Issuer, issuerOf } from '../support/tokens.ts'

/** What a token holds while it lives, and when it ends (docs/identity.md). */

const quietly = { rebalance: { enabled: false }, limits: { seekUnlinkedMs: 100 } }

async function stage(issuer: Issuer, jwt: Parameters<typeof authBy>[1] = {}, gateways = 1) {
  const [overrides, tokens] = authBy(issuer, { skewMs: 0, ...jwt })
  const started: TestGateway[] = []
  for (let i = 0; i < gateways; i++)
    started.push(await startTestGateway({ ...quietly, ...overrides }, tokens))
  const closes: [user: string | undefined, code: number, reason: string][] = []
  await startTestNode(
    started[0]!,
    {
      message: (session, data) => void session.send(data),
      close: ({ meta }, { code, reason }) => void closes.push([meta.user, code, reason]),
    },
    { gateways: started.map(({ linkUrl }) => linkUrl) },
  )
  return { gateway: started[0]!, gateways: started, closes }
}

const shownBy = (token: string) => [`evenkeel.jwt.${token}`]
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const ended = { code: 4401, reason: 'the token has expired' }

describe('a token that ends', () => {
  test('closes what it has opened: a WebSocket by 4401, a stream by an event', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway, closes } = await stage(issuer, { skewMs: 400, from: ['header', 'query'] })
    const first = await issuer.sign({}, 0.5)
    const ws = new WebSocket(gateway.wsUrl, { headers: bearer(first) })
    onTestFinished(() => ws.terminate())
    const closed = new Promise((resolve) =>
      ws.on('close', (code, reason) => resolve({ code, reason: String(reason) })),
    )
    const stream = await SseStream.open(gateway.httpUrl, { headers: bearer(first) })
    const known = await stream.session()
    const { lastEventId } = stream
    const began = Date.now()
    expect(await closed).toEqual(ended)
    // The skew counts here as well.
    expect(Date.now() - began).toBeGreaterThan(300)
    expect(JSON.parse((await stream.next('close')).data)).toEqual(ended)
    await stream.end()
    await expect.poll(() => closes).toEqual([['ada', 4401, 'the token has expired']])
    expect((await postTo(gateway.httpUrl, known, 'late')).status).toBe(401)
    const again = await SseStream.open(gateway.httpUrl, {
      lastEventId,
      headers: bearer(await issuer.sign({})),
    })
    expect(await again.session()).toMatchObject({ recovered: true, session: known.session })
    expect(gateway.operator.counters.auth.expired).toBe(2)
  })

  test('can be replaced in place, by one of the same user', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway } = await stage(issuer)
    const open = async () => {
      const client = await RawResumableClient.open(gateway.wsUrl, shownBy(await issuer.sign({}, 2)))
      client.send('h{}')
      await client.welcomed()
      return client
    }
    const [good, bad, wrong] = [await open(), await open(), await open()]
    const stream = await SseStream.open(gateway.httpUrl, { headers: bearer(await issuer.sign({}, 2)) })
    const known = await stream.session()
    const put = async (body: string) => {
      const url = `${gateway.httpUrl}/sse/${known.session}`
      return (await fetch(url, { method: 'PUT', body, headers: bearer(known.token) })).status
    }
    expect(await put(await issuer.sign({ sub: 'eve' }))).toBe(403)
    expect(await put(await issuer.sign({}, -100))).toBe(401)
    expect(await put(await issuer.sign())).toBe(204)
    await Promise.all([good, bad, wrong].map((client) => client.frame('j')))
    good.send(`j${await issuer.sign()}`)
    bad.send(`j${await issuer.sign({ sub: 'eve' })}`)
    wrong.send('jnonsense')
    expect(await bad.ended).toEqual({ code: 4403, reason: 'the token is of another user' })
    expect(await wrong.ended).toEqual({ code: 4401, reason: 'the token is no JWT' })
    await new Promise((resolve) => setTimeout(resolve, 900))
    good.send('mstill here')
    await good.frame('mstill here')
    expect((await postTo(gateway.httpUrl, known, 'and here')).status).toBe(202)
    expect(gateway.operator.counters.auth.refreshed).toBe(2)
  })
})

describe('evenkeel/client', () => {
  test('shows its token over WebSocket and over HTTP, and another one before that ends', async () => {
    const issuer = await issuerOf('ES256')
    const { gateway, closes } = await stage(issuer)
    const broken = class extends WebSocket {
      constructor() {
        super('ws://127.0.0.1:1/')
      }
    }
    const losses: unknown[] = []
    const clients = [{}, { WebSocket: broken as never }].map((options) => {
      const token = () => issuer.sign({}, 2)
      const client = connect(gateway.wsUrl, { token, random: () => 0, ...options })
      onTestFinished(() => client.close())
      return client
    })
    for (const client of clients) {
      await client.send('one')
      client.on('disconnect', (event) => void losses.push(event))
    }
    await expect.poll(() => gateway.operator.counters.auth.refreshed, { timeout: 8_000 }).toBeGreaterThan(1)
    for (const client of clients) await client.send('two')
    expect({ losses, closes }).toEqual({ losses: [], closes: [] })
  })

  test('without a way to another token it is over', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway } = await stage(issuer)
    const client = connect(gateway.wsUrl)
    const event = await new Promise((resolve) => client.on('close', resolve))
    expect(event).toMatchObject({ code: 4401, kind: 'ended', reason: expect.stringContaining('missing') })
  })
})

describe("another user's resume token", () => {
  test('is worth nothing over evenkeel.v1, at this gateway and at another one, and its session notices nothing', async () => {
    const issuer = await issuerOf('HS256')
    const { gateways } = await stage(issuer, {}, 2)
    const [here, there] = gateways as [TestGateway, TestGateway]
    const own = await RawResumableClient.open(here.wsUrl, shownBy(await issuer.sign()))
    own.send('h{}')
    const welcome = await own.welcomed()
    const { session, token } = welcome
    const hello = `h${JSON.stringify({ resume: { session, token, out: 0, channels: {} } })}`
    for (const { wsUrl } of [here, there]) {
      const thief = await RawResumableClient.open(wsUrl, shownBy(await issuer.sign({ sub: 'eve' })))
      thief.send(hello)
      expect(await thief.ended).toEqual({ code: 4403, reason: 'the session belongs to another user' })
    }
    own.send('mstill mine')
    await own.frame('mstill mine')
    expect(own.closed).toBe(false)
    const moved = await RawResumableClient.open(there.wsUrl, shownBy(await issuer.sign()))
    moved.send(hello)
    expect(await moved.welcomed()).toMatchObject({ recovered: true, session })
    const used = await RawResumableClient.open(there.wsUrl, shownBy(await issuer.sign()))
    moved.send('a0')
    moved.send('mx')
    await moved.frame('mx')
    used.send(hello)
    expect(await used.welcomed()).toMatchObject({ recovered: false, reason: 'token' })
    expect([here, there].map(({ operator }) => operator.counters.resumes.user)).toEqual([1, 1])
  })

  test('is worth nothing over SSE: an event on the stream, 403 to requests, and 410 when it was used', async () => {
    const issuer = await issuerOf('HS256')
    const { gateways } = await stage(issuer, { from: ['header', 'query'] }, 2)
    const [here, there] = gateways as [TestGateway, TestGateway]
    const ada = bearer(await issuer.sign())
    const eve = await issuer.sign({ sub: 'eve' })
    const own = await SseStream.open(here.httpUrl, { headers: ada })
    const known = await own.session()
    const { lastEventId } = own
    for (const { httpUrl } of [here, there]) {
      const thief = await SseStream.open(httpUrl, { lastEventId, headers: bearer(eve) })
      expect(JSON.parse((await thief.next('close')).data)).toMatchObject({ code: 4403 })
      expect(thief.lastEventId).toBe('end')
    }
    expect((await postTo(here.httpUrl, known, 'x')).status).toBe(202)
    const post = (token: string, query = '') =>
      fetch(`${here.httpUrl}/sse/${known.session}${query}`, {
        method: 'POST',
        body: 'x',
        headers: bearer(token),
      })
    expect((await post(known.token, `?access_token=${eve}`)).status).toBe(403)
    const again = await SseStream.open(here.httpUrl, { lastEventId, headers: ada })
    const next = await again.session()
    expect((await post(next.token)).status).toBe(202)
    const used = await post(known.token)
    expect(used.status).toBe(410)
    expect(await used.json()).toMatchObject({ code: 'TOKEN_USED' })
  })
})

test("a user's run is the user's alone, at every gateway and over every transport", async () => {
  const issuer = await issuerOf('HS256')
  const [overrides, tokens] = authBy(issuer)
  const gateway = await startTestGateway({ ...quietly, ...overrides }, tokens)
  await startTestNode(gateway, {})
  await startRunNode([gateway], { tell })
  const [ada, eve] = [bearer(await issuer.sign()), bearer(await issuer.sign({ sub: 'eve' }))]
  const start = async (headers: Record<string, string>) => {
    const init = { method: 'POST', headers: { ...headers, 'idempotency-key': 'same' } }
    const body = JSON.stringify({ name: 'tell', body: 7 })
    const response = await fetch(`${gateway.httpUrl}/runs`, { ...init, body })
    await response.text()
    return response.headers.get('x-run-id')!
  }
  const run = await start(ada)
  expect(await start(ada)).toBe(run)
  const others = await start(eve)
  expect([others === run, others?.length]).toEqual([false, run.length])
  const ask = async (path: string, headers: Record<string, string>, method = 'GET') => {
    const response = await fetch(`${gateway.httpUrl}/runs/${run}/${path}`, { method, headers })
    return [response.status, await response.text()] as const
  }
  expect((await ask('events', ada))[1]).toContain('Once')
  expect((await ask('events', eve))[0]).toBe(403)
  expect((await ask('cancel', eve, 'POST'))[0]).toBe(403)
  expect((await ask('cancel', ada, 'POST'))[0]).toBe(200)
  const client = connect(gateway.wsUrl, { token: () => issuer.sign({ sub: 'eve' }) })
  onTestFinished(() => client.close())
  const read = async () => {
    for await (const _ of client.attach(run));
  }
  await expect(read()).rejects.toMatchObject({ code: 'FORBIDDEN' })
})
