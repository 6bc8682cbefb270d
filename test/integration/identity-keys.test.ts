import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { authSchema } from '../../src/cli/auth-schema.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'
import { startReloadable } from '../support/reloadable.ts'
import { authByServer, type Issuer, issuerOf, KeyServer } from '../support/tokens.ts'

/** Whom the gateway asks: a server that has the keys, and one that says who may come in (docs/identity.md). */

const quietly = { rebalance: { enabled: false } }

/** The status with which a client with this token is answered, over SSE. */
async function statusOf(httpUrl: string, token: string | null, path = '/sse'): Promise<number> {
  const abort = new AbortController()
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` }
  const { status } = await fetch(httpUrl + path, { headers, signal: abort.signal })
  abort.abort()
  return status
}

async function gatewayOf(server: KeyServer, jwt: Parameters<typeof authByServer>[1] = {}) {
  const gateway = await startTestGateway({ ...quietly, ...authByServer(server, jwt) })
  await startTestNode(gateway, {})
  return gateway
}

test('keys are asked for once, rotated, and kept while nobody answers', async () => {
  const [first, second, third] = (await Promise.all(
    ['k1', 'k2', 'k3'].map((kid, index) => issuerOf(['RS256', 'ES256', 'EdDSA'][index]!, kid)),
  )) as [Issuer, Issuer, Issuer]
  const server = await KeyServer.start(first)
  const { httpUrl } = await gatewayOf(server, { jwksCooldownMs: 200 })
  const sign = (issuer: Issuer) => issuer.sign()
  const together = await Promise.all(
    Array.from({ length: 20 }, async () => statusOf(httpUrl, await sign(first))),
  )
  expect(together).toEqual(together.map(() => 200))
  expect(server.asked).toBe(1)

  server.publish(second)
  await expect.poll(async () => statusOf(httpUrl, await sign(second))).toBe(200)
  expect(await statusOf(httpUrl, await sign(first))).toBe(401)

  server.status = 500
  const { asked } = server
  await expect
    .poll(async () => {
      expect(await statusOf(httpUrl, await sign(third))).toBe(401)
      return server.asked
    })
    .toBeGreaterThan(asked)
  expect(await statusOf(httpUrl, await sign(second))).toBe(200)
})

test('without any keys nobody is let in, and that is not the token: 503; redirects are not followed', async () => {
  const issuer = await issuerOf('ES256')
  const server = await KeyServer.start(issuer)
  server.status = 302
  const gateway = await gatewayOf(server, { jwksCooldownMs: 100 })
  expect(await statusOf(gateway.httpUrl, await issuer.sign())).toBe(503)
  expect(gateway.operator.counters.auth.unavailable).toBe(1)
  server.status = 200
  await expect.poll(async () => statusOf(gateway.httpUrl, await issuer.sign())).toBe(200)
})

test('a key set in a file is read again when it has changed', async () => {
  const files = mkdtempSync(path.join(tmpdir(), 'evenkeel-keys-'))
  onTestFinished(() => rmSync(files, { recursive: true }))
  const jwksFile = path.join(files, 'jwks.json')
  const [first, second] = [await issuerOf('ES256', 'k1'), await issuerOf('ES256', 'k2')]
  const publish = ({ jwk }: Issuer) => writeFileSync(jwksFile, JSON.stringify({ keys: [jwk] }))
  publish(first)
  const auth = authSchema.parse({ jwt: { jwksFile, jwksCooldownMs: 100 } })
  const gateway = await startTestGateway({ ...quietly, auth })
  await startTestNode(gateway, {})
  expect(await statusOf(gateway.httpUrl, await first.sign())).toBe(200)
  publish(second)
  await expect.poll(async () => statusOf(gateway.httpUrl, await second.sign())).toBe(200)
  expect(await statusOf(gateway.httpUrl, await first.sign())).toBe(401)
})

test('a reload takes another secret for clients that come then, and keeps keys that cannot be had again', async () => {
  const [first, second, other] = [await issuerOf('HS256'), await issuerOf('HS256'), await issuerOf('ES256')]
  const server = await KeyServer.start(other)
  const files = mkdtempSync(path.join(tmpdir(), 'evenkeel-keys-'))
  onTestFinished(() => rmSync(files, { recursive: true }))
  const secretFile = path.join(files, 'secret')
  const publish = ({ text }: Issuer) => writeFileSync(secretFile, text)
  publish(first)
  const auth = { jwt: { keys: [{ alg: 'HS256', secretFile }] } }
  const gateway = await startReloadable({ auth })
  await startTestNode(gateway, echo)
  const reload = async (config: object) => {
    gateway.write(config)
    const response = await fetch(`${gateway.internalUrl}/api/v1/config/reload`, { method: 'POST' })
    expect(response.status).toBe(200)
  }
  const ws = new WebSocket(gateway.wsUrl, { headers: { authorization: `Bearer ${await first.sign()}` } })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  publish(second)
  await reload({ auth })
  expect(await statusOf(gateway.httpUrl, await first.sign())).toBe(401)
  expect(await statusOf(gateway.httpUrl, await second.sign())).toBe(200)
  ws.send('still here')
  expect(String((await once(ws, 'message'))[0])).toBe('still here')
  const bySet = { auth: { jwt: { jwksUrl: server.url } } }
  await reload(bySet)
  expect(await statusOf(gateway.httpUrl, await other.sign())).toBe(200)
  server.status = 500
  await reload({ ...bySet, slowConsumer: 'drop' })
  expect(await statusOf(gateway.httpUrl, await other.sign())).toBe(200)
})

interface Asked {
  path: string
  user: string | null
  headers: Record<string, string>
  transport: string
}

/** Says who may come in. */
async function authorizer(answer: (asked: Asked) => [status: number, body: unknown] | null) {
  const asked: Asked[] = []
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const question = JSON.parse(text) as Asked
    asked.push(question)
    const said = answer(question)
    if (said !== null) response.writeHead(said[0]).end(JSON.stringify(said[1]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/authorize` }
}

test('who is asked says who may come, as whom and to which pool', async () => {
  const hook = await authorizer(({ headers }) => {
    const who = headers['x-api-key']
    if (who === 'out') return [403, { reason: 'your plan\nhas ended' }]
    if (who === undefined) return [401, 'what?']
    return [200, { user: who, claims: { plan: 'pro' }, pool: who === 'vip' ? 'best' : undefined }]
  })
  const auth = authSchema.parse({
    authorize: { url: hook.url, headers: ['X-Api-Key'], cacheMs: 60_000 },
    claims: ['plan'],
  })
  const gateway = await startTestGateway({ ...quietly, auth })
  const metas: [string, unknown][] = []
  for (const pool of ['default', 'best'])
    await startTestNode(
      gateway,
      { open: ({ meta }) => void metas.push([pool, { user: meta.user, claims: meta.claims }]) },
      { id: pool, pool },
    )
  const ask = async (headers: Record<string, string>) => {
    const abort = new AbortController()
    const response = await fetch(`${gateway.httpUrl}/sse`, { headers, signal: abort.signal })
    const detail = response.ok ? '' : ((await response.json()) as { detail: string }).detail
    if (response.ok) await response.body!.getReader().read()
    abort.abort()
    return [response.status, detail]
  }
  expect(await ask({ 'x-api-key': 'ada' })).toEqual([200, ''])
  expect(await ask({ 'x-api-key': 'vip' })).toEqual([200, ''])
  expect(await ask({ 'x-api-key': 'out', cookie: 'secret=1' })).toEqual([403, 'your plan has ended'])
  expect(await ask({})).toEqual([401, 'not allowed'])
  expect(metas).toEqual([
    ['default', { user: 'ada', claims: { plan: 'pro' } }],
    ['best', { user: 'vip', claims: { plan: 'pro' } }],
  ])
  expect(hook.asked[0]).toMatchObject({
    path: '/sse',
    transport: 'sse',
    headers: { 'x-api-key': 'ada' },
    user: null,
  })
  expect(JSON.stringify(hook.asked)).not.toContain('secret')
  expect(await ask({ 'x-api-key': 'ada' })).toEqual([200, ''])
  expect(hook.asked).toHaveLength(4)
  expect(gateway.operator.counters.auth).toMatchObject({ ok: 3, denied: 2 })
})

test.each([false, true])(
  'nobody answers (failOpen: %s): so it is for all, and who is asked is left alone',
  async (failOpen) => {
    let silent = true
    const hook = await authorizer(() => (silent ? null : [200, {}]))
    const auth = authSchema.parse({ authorize: { url: hook.url, timeoutMs: 50, failOpen } })
    const gateway = await startTestGateway({ ...quietly, auth })
    await startTestNode(gateway, {})
    for (let i = 0; i < 8; i++) expect(await statusOf(gateway.httpUrl, null)).toBe(failOpen ? 200 : 503)
    // The circuit is open after five.
    expect(hook.asked).toHaveLength(5)
    silent = false
    expect(await statusOf(gateway.httpUrl, null)).toBe(failOpen ? 200 : 503)
  },
)
