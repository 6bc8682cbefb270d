import { expect, test } from 'vitest'
import { blankPage, launchBrowser } from '../support/browser.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { localCertificate, tlsListener } from '../support/tls.ts'

interface Kept {
  sessions: { session: string; token: string; got: string[]; errors: number }[]
}

/** `PerformanceNavigationTiming`. */
interface Hop {
  nextHopProtocol: string
}

declare const window: { kept: Kept }
declare const document: { URL: string }

const count = 100

function openStreams(streams: number): void {
  const kept: Kept = { sessions: [] }
  window.kept = kept
  for (let i = 0; i < streams; i++) {
    const own = { session: '', token: '', got: [] as string[], errors: 0 }
    kept.sessions.push(own)
    const source = new EventSource('/sse')
    source.addEventListener('session', (event) =>
      Object.assign(own, JSON.parse((event as MessageEvent).data)),
    )
    source.addEventListener('message', ({ data }) => own.got.push(data))
    source.addEventListener('error', () => own.errors++)
  }
}

/** Each session sends what only it can be sent back. */
async function sendAll(): Promise<number[]> {
  const posts = window.kept.sessions.map(async ({ session, token }, index) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'text/plain' }
    return (await fetch(`/sse/${session}`, { method: 'POST', headers, body: `message ${index}` })).status
  })
  return Promise.all(posts)
}

test('100 SSE sessions of a page over one HTTP/2 connection', async () => {
  const gateway = await startTestGateway({
    public: tlsListener([localCertificate()]),
    websocket: {
      deflate: { threshold: 100, windowBits: 13, memoryLevel: 7, concurrency: 4, noContextTakeover: true },
    },
  } as never)
  const addresses = new Set<string>()
  await startTestNode(gateway, {
    open: ({ meta }) => void addresses.add(meta.address),
    message(session, data) {
      session.send(`${session.id} ${data}`)
      if (data === 'message 0') session.send('only once')
    },
  })
  const context = { ignoreHTTPSErrors: true }
  const browser = await launchBrowser()
  const page = await blankPage(`https://localhost:${gateway.publicPort}/healthz`, browser, context)
  await page.evaluate(openStreams, count)
  await page.waitForFunction(() => window.kept.sessions.every(({ session }) => session !== ''), null, {
    timeout: 20_000,
  })

  const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
  expect(metrics).toContain(`\nevenkeel_http2_streams ${count}\n`)
  expect(metrics).toContain('\nevenkeel_http2_connections 1\n')
  // Chromium opens six at most to one host over HTTP/1.1.
  expect(gateway.operator.sessions({ limit: 1_000 }).sessions.length).toBe(count)
  const protocol = await page.evaluate(
    () => (performance.getEntriesByType('navigation' as never)[0] as unknown as Hop).nextHopProtocol,
  )
  expect(protocol).toBe('h2')

  expect(await page.evaluate(sendAll)).toEqual(Array.from({ length: count }, () => 202))
  await page.waitForFunction(() => window.kept.sessions.every(({ got }) => got.length >= 1))
  await page.waitForFunction(() => window.kept.sessions[0]!.got.length === 2)
  const { sessions } = await page.evaluate(() => window.kept)
  for (const [index, { session, got, errors }] of sessions.entries()) {
    expect(got[0]).toBe(`${session} message ${index}`)
    expect(errors).toBe(0)
  }
  expect(new Set(sessions.map(({ session }) => session)).size).toBe(count)
  expect([...addresses]).toEqual(['127.0.0.1'])

  // A WebSocket of the same page gets a connection of its own.
  const echoed = await page.evaluate(async () => {
    const ws = new WebSocket(document.URL.replace('https:', 'wss:').replace('/healthz', '/ws'))
    const message = new Promise((resolve) => ws.addEventListener('message', ({ data }) => resolve(data)))
    ws.addEventListener('open', () => ws.send('hi '.repeat(1_000)))
    return { text: String(await message), extensions: ws.extensions }
  })
  expect(echoed.text).toMatch(/^\S+ (?:hi ){1000}$/)
  expect(echoed.extensions).toContain('permessage-deflate')
}, 60_000)
