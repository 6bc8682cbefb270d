import { createHmac } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { SessionMeta } from 'evenkeel/sdk'
import { type ErrorEvent, EventSource } from 'eventsource'
import type { JWTPayload } from 'jose'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { poolsSchema } from '../../src/cli/upstreams-schema.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { connectClient, startSocketIoNode } from '../support/socket-io.ts'
import { authBy, authByServer, type Issuer, issuerOf, KeyServer } from '../support/tokens.ts'

/** Tokens at the door: where they are shown, what is taken, what those behind the gateway get (docs/identity.md). */

const quietly = { rebalance: { enabled: false } }

async function gatewayFor(
  issuer: Issuer,
  jwt: Parameters<typeof authBy>[1] = {},
  auth: Parameters<typeof authBy>[2] = {},
) {
  const [overrides, tokens] = authBy(issuer, jwt, auth)
  return await serving({ ...quietly, ...overrides }, tokens)
}

async function serving(overrides: Parameters<typeof startTestGateway>[0], tokens = {}) {
  const gateway = await startTestGateway(overrides, tokens)
  const metas: SessionMeta[] = []
  await startTestNode(gateway, {
    open: (session) => void metas.push(session.meta),
    message: (session, data) => void session.send(data),
  })
  return { gateway, metas }
}

interface Tried {
  status: number
  code: number | null
  detail: string
  protocol: string
}

/** One attempt to connect, as `ws` sees it. */
async function tried(
  gateway: Pick<TestGateway, 'wsUrl'>,
  { query = '', protocols = [] as string[], headers = {} as Record<string, string> } = {},
): Promise<Tried> {
  const ws = new WebSocket(gateway.wsUrl + query, protocols, { headers, perMessageDeflate: false })
  onTestFinished(() => ws.terminate())
  const { promise, resolve } = Promise.withResolvers<Tried>()
  ws.on('error', () => {})
  ws.on('unexpected-response', async (_request, response) => {
    let body = ''
    for await (const chunk of response) body += chunk
    resolve({ status: response.statusCode!, code: null, detail: JSON.parse(body).detail, protocol: '' })
  })
  ws.on('open', () => ws.send('echo'))
  ws.on('message', () => resolve({ status: 101, code: null, detail: '', protocol: ws.protocol }))
  ws.on('close', (code, reason) =>
    resolve({ status: 101, code, detail: String(reason), protocol: ws.protocol }),
  )
  return await promise
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

test.each([[['HS512']], [['RS256', 'PS384', 'ES256', 'ES512', 'EdDSA']]])(
  'tokens by %j are taken, and only those that fit',
  async (algorithms) => {
    const issuers = await Promise.all(algorithms.map((alg) => issuerOf(alg, `key-${alg}`)))
    const server = await KeyServer.start(...issuers)
    const isSecret = issuers.length === 1
    const [overrides, tokens] = isSecret
      ? authBy(issuers[0]!, {}, { claims: ['role', 'org.name'] })
      : [authByServer(server, { algorithms: algorithms as never[] }, { claims: ['role', 'org.name'] }), {}]
    const { gateway, metas } = await serving({ ...quietly, ...overrides }, tokens)
    for (const issuer of issuers) {
      const claims = { role: 'admin', org: { name: 'x', id: 7 } }
      expect(await tried(gateway, bearer(await issuer.sign(claims)))).toMatchObject({
        status: 101,
        code: null,
      })
      const meta = metas.pop()!
      expect(meta).toMatchObject({ user: 'ada', claims: { role: 'admin', 'org.name': 'x' } })
      expect(meta.headers['x-evenkeel-user']).toBe('ada')
      expect(meta.headers.authorization).toBeUndefined()
      const other = await issuerOf(issuer.alg, issuer.kid)
      const [head, body, signature] = (await issuer.sign()).split('.')
      const forged = Buffer.from(JSON.stringify({ sub: 'eve', exp: 4e9 })).toString('base64url')
      const bad = [
        `${head}.${forged}.${signature}`,
        `${head}.${body}.`,
        'x.y.z',
        'nothing',
        await other.sign(),
      ]
      for (const token of bad) {
        const answer = await tried(gateway, bearer(token))
        expect(answer.status).toBe(401)
        expect(answer.detail).not.toContain(token.slice(0, 20))
      }
    }
    expect(metas).toEqual([])
  },
)

test('neither `none` nor a public key that is taken for a secret lets anybody in', async () => {
  const issuer = await issuerOf('RS256')
  const server = await KeyServer.start(issuer)
  const gateway = await startTestGateway({ ...quietly, ...authByServer(server) })
  await startTestNode(gateway, { message: (session, data) => void session.send(data) })
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = part({ sub: 'eve', exp: 4e9 })
  const none = `${part({ alg: 'none', kid: 'k1' })}.${body}.`
  const head = `${part({ alg: 'HS256', kid: 'k1' })}.${body}`
  const confused = `${head}.${createHmac('sha256', issuer.text).update(head).digest('base64url')}`
  for (const token of [none, confused]) {
    const answer = await tried(gateway, bearer(token))
    expect(answer).toMatchObject({ status: 401, detail: expect.stringContaining('algorithm') })
  }
  expect(await tried(gateway, bearer(await issuer.sign()))).toMatchObject({ status: 101, code: null })
  expect(gateway.operator.counters.auth).toMatchObject({ algorithm: 2, ok: 1 })
})

test('what a token says is held against the clock, the issuer and the audience, and the reason is named', async () => {
  const issuer = await issuerOf('ES256')
  const { gateway } = await gatewayFor(issuer, {
    issuer: 'https://id.example',
    audience: ['chat'],
    skewMs: 5_000,
    maxLifetimeMs: 3_600_000,
  })
  const now = Math.floor(Date.now() / 1_000)
  const good = { iss: 'https://id.example', aud: ['mail', 'chat'] }
  const answers = [
    [good, 600, 'ok'],
    [good, -3, 'ok'],
    [{ ...good, nbf: now + 3 }, 600, 'ok'],
    [good, -10, 'the token has expired'],
    [{ ...good, nbf: now + 60 }, 600, 'the token is not valid yet'],
    [{ ...good, iss: 'https://evil.example' }, 600, 'the claim iss is not what it must be'],
    [{ ...good, aud: 'mail' }, 600, 'the claim aud is not what it must be'],
    [{ ...good, sub: undefined }, 600, 'the claim sub names no user'],
    [{ ...good, exp: undefined }, 600, 'the claim exp is missing'],
    [good, 7_200, 'the token is valid for longer than tokens may be'],
  ] as const
  for (const [claims, seconds, expected] of answers) {
    const answer = await tried(gateway, bearer(await issuer.sign({ ...claims } as JWTPayload, seconds)))
    expect(answer.status === 101 ? 'ok' : answer.detail).toBe(expected)
  }
})

describe('a token may be shown', () => {
  test('where the configuration says, and goes no further', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway, metas } = await gatewayFor(issuer, {
      from: ['header', 'subprotocol', 'query', 'cookie'],
      cookie: 'id',
    })
    const token = await issuer.sign({ sub: 'ünï' })
    const query = `?a=1&access_token=${token}&b=%20`
    const ways = [
      bearer(token),
      { query },
      { query: query.replace('access', '%61ccess') },
      { headers: { cookie: `x=1; id=${token}; y=2` } },
      { protocols: ['chat', `evenkeel.jwt.${token}`] },
      { protocols: [`evenkeel.jwt.${token}`, 'evenkeel.jwt'] },
    ]
    const protocols: string[] = []
    for (const way of ways) {
      const forged = { 'x-evenkeel-user': 'root', x_evenkeel_user: 'root' }
      const answer = await tried(gateway, {
        ...way,
        headers: { ...forged, ...('headers' in way ? way.headers : {}) },
      })
      expect(answer).toMatchObject({ status: 101, code: null })
      protocols.push(answer.protocol)
    }
    expect(protocols).toEqual(['', '', '', '', 'chat', 'evenkeel.jwt'])
    expect(metas.map(({ user }) => user)).toEqual(ways.map(() => 'ünï'))
    expect(JSON.stringify(metas)).not.toContain(token.slice(0, 30))
    expect(JSON.stringify(metas)).not.toContain('root')
    expect(metas[0]!.headers['x-evenkeel-user']).toBe('%C3%BCn%C3%AF')
    expect(metas[1]!.query).toBe('a=1&b=%20')
    expect(metas[3]!.headers.cookie).toBe('x=1; y=2')
  })

  test('nowhere else', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway } = await gatewayFor(issuer)
    const token = await issuer.sign()
    for (const way of [
      { query: `?access_token=${token}` },
      { headers: { cookie: `evenkeel-token=${token}` } },
      {},
    ])
      expect(await tried(gateway, way)).toMatchObject({
        status: 401,
        detail: expect.stringContaining('missing'),
      })
  })

  test('and one that is not taken is a status, or for browsers and evenkeel.v1 a code', async () => {
    const issuer = await issuerOf('HS256')
    const { gateway } = await gatewayFor(issuer)
    const expired = await issuer.sign({}, -100)
    const origin = gateway.httpUrl
    const closed = { status: 101, code: 4401, detail: 'the token has expired' }
    const shown = [`evenkeel.jwt.${expired}`]
    expect(await tried(gateway, { protocols: ['chat', ...shown] })).toMatchObject({ status: 401 })
    expect(await tried(gateway, { protocols: ['chat', ...shown], headers: { origin } })).toEqual({
      ...closed,
      protocol: 'chat',
    })
    expect(await tried(gateway, { protocols: ['evenkeel.v1', ...shown] })).toEqual({
      ...closed,
      protocol: 'evenkeel.v1',
    })
    const foreign = { headers: { ...bearer(await issuer.sign()).headers, origin: 'http://evil.example' } }
    expect(await tried(gateway, foreign)).toMatchObject({ status: 403, code: null })
  })
})

test('EventSource, Socket.IO, runs and health: who may come without a token', async () => {
  const issuer = await issuerOf('HS256')
  const { gateway, metas } = await gatewayFor(issuer, { from: ['header', 'query'] })
  const { httpUrl } = gateway
  const status = async (path: string, init: RequestInit = {}) => (await fetch(httpUrl + path, init)).status
  expect(await status('/healthz')).toBe(200)
  expect(await status('/readyz')).toBe(200)
  expect(await status('/sse')).toBe(401)
  expect(await status('/sse/v1', { method: 'POST', body: 'h{}' })).toBe(401)
  expect(await status('/runs', { method: 'POST', body: '{}' })).toBe(401)
  expect(await status('/socket.io/?EIO=4&transport=polling')).toBe(401)
  expect(
    await status('/sse', { method: 'OPTIONS', headers: { 'access-control-request-method': 'GET' } }),
  ).toBe(204)
  const token = await issuer.sign()
  const source = new EventSource(`${httpUrl}/sse?access_token=${token}`)
  onTestFinished(() => source.close())
  await new Promise((resolve) => source.addEventListener('session', resolve))
  const refused = new EventSource(`${httpUrl}/sse?access_token=${await issuer.sign({}, -100)}`)
  onTestFinished(() => refused.close())
  const event = await new Promise<Event>((resolve) => refused.addEventListener('error', resolve))
  expect((event as ErrorEvent).code).toBe(401)
  expect(refused.readyState).toBe(EventSource.CLOSED)
  expect(metas.map(({ user, transport }) => [user, transport])).toEqual([['ada', 'sse']])
})

test('without `auth` nobody is asked, and names of the gateway are still its own', async () => {
  const { gateway, metas } = await serving(quietly)
  const headers = { 'x-evenkeel-user': 'root', authorization: 'Bearer its-own' }
  expect(await tried(gateway, { headers, protocols: ['chat', 'evenkeel.jwt.x'] })).toMatchObject({
    protocol: 'chat',
  })
  expect(metas[0]).not.toHaveProperty('user')
  expect(metas[0]!.headers).toMatchObject({ authorization: 'Bearer its-own' })
  expect(metas[0]!.headers).not.toHaveProperty('x-evenkeel-user')
})

test('a Socket.IO server is told the user', async () => {
  const issuer = await issuerOf('HS256')
  const [overrides, tokens] = authBy(issuer, { from: ['header', 'query'] })
  const gateway = await startTestGateway({ ...quietly, ...overrides }, tokens)
  const handshakes: { user: unknown; all: string }[] = []
  await startSocketIoNode(
    [gateway],
    (io) => {
      io.on('connection', ({ handshake }) => {
        handshakes.push({ user: handshake.headers['x-evenkeel-user'], all: JSON.stringify(handshake) })
      })
    },
    { id: 'io-1' },
  )
  const token = await issuer.sign()
  await connectClient(gateway, { extraHeaders: { authorization: `Bearer ${token}` } })
  await connectClient(gateway, { query: { access_token: token }, transports: ['websocket'] })
  expect(handshakes.map(({ user }) => user)).toEqual(['ada', 'ada'])
  expect(JSON.stringify(handshakes)).not.toContain(token.slice(0, 30))
})

test('servers by URL get the user in a header, routes say who must show a token', async () => {
  const seen: IncomingMessage[] = []
  const server = createServer((request, response) => {
    seen.push(request)
    response.end('ok')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  const issuer = await issuerOf('EdDSA')
  const [overrides, tokens] = authBy(
    issuer,
    { from: ['header', 'query'] },
    { claimHeaders: { 'X-Roles': 'roles' } },
  )
  const gateway = await startTestGateway(
    {
      ...quietly,
      ...overrides,
      pools: poolsSchema.parse({ web: { upstreams: [`http://127.0.0.1:${port}`] } }),
      routes: [
        { path: '/open/*', pool: 'web', auth: 'none' },
        { path: '/maybe/*', pool: 'web', auth: 'optional' },
        { path: '/sse/x*', pool: 'web' },
        { path: '/socket.io/*', pool: 'web' },
        { path: '/staff/*', pool: 'web', claims: { roles: 'b' } },
        { path: '/closed/*', pool: 'web' },
      ],
    },
    tokens,
  )
  const ask = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(gateway.httpUrl + path, { headers })).status
  const token = await issuer.sign({ roles: ['a', 'b'] })
  const { headers } = bearer(token)
  expect(await ask('/closed/1')).toBe(401)
  expect(await ask('/sse/x1')).toBe(401)
  expect(await ask('/socket.io/?sid=x')).toBe(401)
  expect(await ask('/maybe/1', { authorization: 'Bearer nonsense' })).toBe(401)
  expect(seen).toEqual([])
  expect(await ask('/closed/1', { ...headers, 'x-roles': 'root', X_Evenkeel_User: 'root' })).toBe(200)
  expect(await ask(`/closed/2?access_token=${token}&z`)).toBe(200)
  expect(await ask('/maybe/1', { 'x-evenkeel-user': 'root' })).toBe(200)
  expect(await ask('/open/1', { authorization: 'Bearer key-of-the-upstream', 'x-roles': 'root' })).toBe(200)
  expect(await ask('/socket.io/?sid=x', headers)).toBe(200)
  expect(await ask('/staff/1', headers)).toBe(200)
  expect(await ask('/staff/1', bearer(await issuer.sign({ roles: ['a'] })).headers)).toBe(404)
  const users = seen.map(({ headers, url }) => [
    url,
    headers['x-evenkeel-user'],
    headers['x-roles'],
    headers.authorization,
  ])
  expect(users).toEqual([
    ['/closed/1', 'ada', 'a,b', undefined],
    ['/closed/2?z', 'ada', 'a,b', undefined],
    ['/maybe/1', undefined, undefined, undefined],
    ['/open/1', undefined, undefined, 'Bearer key-of-the-upstream'],
    ['/socket.io/?sid=x', 'ada', 'a,b', undefined],
    ['/staff/1', 'ada', 'a,b', undefined],
  ])
  expect(JSON.stringify(seen.map(({ rawHeaders }) => rawHeaders))).not.toContain('root')
})
