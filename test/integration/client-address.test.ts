import { once } from 'node:events'
import type { Session } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Http2Client, localCertificate, tlsListener } from '../support/tls.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

const trusted = { trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] }
const behind = {
  'x-forwarded-for': '6.6.6.6, 203.0.113.7, 10.1.1.1',
  'x-forwarded-proto': 'https',
  'x-forwarded-host': 'app.example',
}

async function connect(
  gateway: TestGateway,
  headers: Record<string, string>,
  options = {},
): Promise<WebSocket> {
  const ws = new WebSocket(gateway.wsUrl, { headers, ...options })
  onTestFinished(() => ws.terminate())
  await Promise.race([
    once(ws, 'open'),
    once(ws, 'unexpected-response').then(() => Promise.reject(new Error('refused'))),
  ])
  return ws
}

async function metasOf(
  overrides: object,
  use: (gateway: TestGateway) => Promise<void>,
): Promise<Session['meta'][]> {
  const metas: Session['meta'][] = []
  const gateway = await startTestGateway(overrides as never)
  await startTestNode(gateway, { ...echo, open: ({ meta }) => void metas.push(meta) })
  await use(gateway)
  await expect.poll(() => metas.length).toBe(4)
  return metas
}

const useAll = async (gateway: TestGateway) => {
  await connect(gateway, behind)
  await fetch(`${gateway.httpUrl}/sse`, { headers: behind }).then(({ body }) => body!.cancel())
  await fetch(`${gateway.httpUrl}/engine.io/?EIO=4&transport=polling`, { headers: behind })
  await connect(gateway, { forwarded: 'for=6.6.6.6, for="203.0.113.7:99"' })
}

test('behind a trusted proxy the node learns the address of the client, whatever the transport is', async () => {
  const metas = await metasOf(trusted, useAll)
  expect(metas.map(({ address }) => address)).toEqual(Array(4).fill('203.0.113.7'))
  for (const { headers } of metas) {
    const names = Object.keys(headers).filter((name) => name.includes('forwarded'))
    expect(names).toEqual([])
  }
})

test('without, and from others than a trusted one, it is the other end of the connection', async () => {
  for (const overrides of [{}, { trustedProxies: ['10.0.0.0/8'] }]) {
    const metas = await metasOf(overrides, useAll)
    expect(metas.map(({ address }) => address)).toEqual(Array(4).fill('127.0.0.1'))
    expect(
      metas.flatMap(({ headers }) => Object.keys(headers)).filter((name) => name.includes('forwarded')),
    ).toEqual([])
  }
})

test('upstreams get one set of headers, that of the gateway', async () => {
  const upstream = await startHttpUpstream((request, response) =>
    response.end(JSON.stringify(request.headers)),
  )
  const config = {
    pools: {
      web: {
        upstreams: [{ url: upstream.url, weight: 1 }],
        migrate: 'drain',
        probe: { intervalMs: 60_000, timeoutMs: 2_000, failures: 3 },
      },
    },
    routes: [{ path: '/*', pool: 'web' }],
  }
  const seen = async (overrides: object) => {
    const gateway = await startTestGateway({ ...config, ...overrides } as never)
    const { host } = new URL(gateway.httpUrl)
    const answer = await fetch(gateway.httpUrl, { headers: { ...behind, forwarded: 'for=6.6.6.6' } })
    return { host, headers: (await answer.json()) as Record<string, string> }
  }
  const believed = await seen(trusted)
  expect(believed.headers).toMatchObject({
    host: believed.host,
    forwarded: 'for=203.0.113.7;host="app.example";proto=https',
    'x-forwarded-for': '203.0.113.7',
    'x-forwarded-host': 'app.example',
    'x-forwarded-proto': 'https',
  })
  const dropped = await seen({})
  expect(dropped.headers).toMatchObject({
    forwarded: `for=127.0.0.1;host="${dropped.host}";proto=http`,
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': dropped.host,
    'x-forwarded-proto': 'http',
  })
})

test('the host that the client has asked is the one that its Origin is compared with', async () => {
  const gateway = await startTestGateway(trusted as never)
  await startTestNode(gateway, echo)
  await connect(gateway, behind, { origin: 'https://app.example' })
  await expect(connect(gateway, behind, { origin: gateway.httpUrl })).rejects.toThrow('refused')
  // Without a trusted proxy a page could bring its own.
  const strict = await startTestGateway()
  await startTestNode(strict, echo)
  await expect(connect(strict, behind, { origin: 'https://app.example' })).rejects.toThrow('refused')
})

test('persistence goes by the address of the client, and its cookie by the scheme', async () => {
  const persistence = { by: 'ip', name: 'evenkeel-node', ttlMs: 3_600_000, maxOverShare: 100 }
  const gateway = await startTestGateway({ ...trusted, persistence } as never)
  const nodes: string[] = []
  for (const id of ['a', 'b', 'c'])
    await startTestNode(gateway, { ...echo, open: () => void nodes.push(id) }, { id })
  const from = (address: string) => connect(gateway, { 'x-forwarded-for': address })
  for (let i = 0; i < 4; i++) await from('203.0.113.7')
  expect(new Set(nodes).size).toBe(1)
  for (let i = 0; i < 12; i++) await from(`203.0.113.${i + 20}`)
  expect(new Set(nodes).size).toBeGreaterThan(1)

  const byCookie = { persistence: { ...persistence, by: 'cookie' } }
  const cookieOf = async (overrides: object, headers: Record<string, string>) => {
    const one = await startTestGateway({ ...overrides, ...byCookie } as never)
    await startTestNode(one, echo)
    const answer = await fetch(`${one.httpUrl}/sse`, { headers })
    await answer.body!.cancel()
    return answer.headers.get('set-cookie')
  }
  expect(await cookieOf(trusted, { forwarded: 'for=203.0.113.7;proto=https' })).toMatch(/; Secure$/)
  expect(await cookieOf(trusted, { forwarded: 'for=203.0.113.7;proto=http' })).not.toMatch(/Secure/)
  expect(await cookieOf({}, { forwarded: 'for=203.0.113.7;proto=https' })).not.toMatch(/Secure/)
})

test('over HTTP/2 as well', async () => {
  const gateway = await startTestGateway({ ...trusted, public: tlsListener([localCertificate()]) } as never)
  const metas: Session['meta'][] = []
  await startTestNode(gateway, { ...echo, open: ({ meta }) => void metas.push(meta) })
  const client = new Http2Client(gateway.publicPort)
  await (await client.events('/sse', behind)).next('session')
  expect(metas[0]!.address).toBe('203.0.113.7')
})
