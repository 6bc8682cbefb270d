import { expect, test } from 'vitest'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { authBy, issuerOf } from '../support/tokens.ts'

/** Ways around the door that look like those of somebody who is in already (docs/identity.md). */

async function guarded() {
  const [overrides, tokens] = authBy(await issuerOf('HS256'), { required: true })
  const gateway = await startTestGateway({ rebalance: { enabled: false }, ...overrides }, tokens)
  const opened: string[] = []
  await startTestNode(gateway, { open: ({ meta }) => void opened.push(meta.path) })
  return { gateway, opened }
}

async function asked(base: string, path: string, init: RequestInit = {}) {
  const response = await fetch(base + path, { ...init, signal: AbortSignal.timeout(3_000) })
  const reader = response.body!.getReader()
  const { value } = await reader.read()
  await reader.cancel()
  return { status: response.status, said: Buffer.from(value ?? []).toString() }
}

test.each([
  '/socket.io/?EIO=4&transport=polling&sid=',
  '/engine.io?EIO=4&transport=polling&sid=',
  '/socket.io/?EIO=4&transport=polling&sid=x&sid=',
  '/socket.io/?EIO=4&transport=polling&sid=&sid=x',
])('a handshake that only seems to go on is one of somebody new: %s', async (path) => {
  const { gateway, opened } = await guarded()
  const { status, said } = await asked(gateway.httpUrl, path)
  expect([400, 401]).toContain(status)
  expect(said).not.toContain('upgrades')
  expect(opened).toEqual([])
})

test('no session is opened by what other gateways send here', async () => {
  const { gateway, opened } = await guarded()
  await asked(gateway.internalUrl, '/socket.io/?EIO=4&transport=polling')
  expect((await asked(gateway.httpUrl, '/healthz')).status).toBe(200)
  expect(opened).toEqual([])
})

test('a tunnel is opened by who is known, whatever its path ends with', async () => {
  const { gateway, opened } = await guarded()
  for (const path of ['/sse/v1', '/sse/v1/']) {
    const { status, said } = await asked(gateway.httpUrl, path, { method: 'POST', body: 'h{}' })
    expect([path, status, said]).toEqual([path, 401, expect.stringContaining('oken')])
  }
  expect(opened).toEqual([])
})
