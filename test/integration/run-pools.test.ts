import { connect } from 'evenkeel/client'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { NoWebSocket } from '../support/no-web-socket.ts'
import { startRunNode, tell, wholeText } from '../support/run-nodes.ts'

/** Clients start runs in the pool that their route leads to, and in those that it names (docs/routes.md). */

async function stage() {
  const routes = [
    { path: '/staff/ws', protocol: 'websocket', pool: 'default', runPools: ['writers'] },
    { path: '/staff/sse', protocol: 'sse', pool: 'default', runPools: ['writers'] },
    { path: '/staff/runs', protocol: 'runs', pool: 'default', runPools: ['writers'] },
    { path: '/writers', protocol: 'runs', pool: 'writers', headers: { 'x-staff': 'yes' } },
  ]
  const gateway = await startTestGateway({ routes: routes as never })
  await startTestNode(gateway, {}, { id: 'sessions' })
  const started: string[] = []
  for (const pool of ['default', 'writers', 'editors'])
    await startRunNode(
      [gateway],
      {
        story(...given) {
          started.push(pool)
          return tell(...given)
        },
      },
      { id: `${pool}-1`, pool },
    )
  return { gateway, started }
}

const refusal = "pool: runs of another pool may be started only where runPools of the client's route names it"

async function post({ httpUrl }: TestGateway, path: string, pool?: string) {
  const body = JSON.stringify({ name: 'story', body: {}, ...(pool !== undefined && { pool }) })
  const response = await fetch(httpUrl + path, { method: 'POST', body })
  const text = await response.text()
  return response.status === 200 ? text.includes('Once') : [response.status, JSON.parse(text).detail]
}

test('over HTTP', async () => {
  const { gateway, started } = await stage()
  expect(await post(gateway, '/runs')).toBe(true)
  expect(await post(gateway, '/runs', 'default')).toBe(true)
  expect(await post(gateway, '/staff/runs', 'writers')).toBe(true)
  expect(started).toEqual(['default', 'default', 'writers'])
  // The route that leads there asks for a header.
  expect(await post(gateway, '/runs', 'writers')).toEqual([403, refusal])
  expect(await post(gateway, '/staff/runs', 'editors')).toEqual([403, refusal])
  // Whether there is such a pool is not told.
  expect(await post(gateway, '/runs', 'nothing')).toEqual([403, refusal])
  expect(started).toHaveLength(3)
})

test.each([
  ['WebSocket', {}],
  ['HTTP', { WebSocket: NoWebSocket }],
])('over evenkeel.v1 by %s', async (_, options) => {
  const { gateway, started } = await stage()
  const read = async (path: string, pool?: string) => {
    const client = connect(gateway.wsUrl.replace('/ws', path), { random: () => 0, ...options })
    onTestFinished(() => client.close())
    const run = client.run('story', {}, { ...(pool !== undefined && { pool }) })
    for await (const _ of run);
    return run.text
  }
  expect(await read('/ws')).toBe(wholeText)
  expect(await read('/staff/ws', 'writers')).toBe(wholeText)
  expect(started).toEqual(['default', 'writers'])
  const refused = { code: 'FORBIDDEN', message: refusal, retryable: false }
  await expect(read('/ws', 'writers')).rejects.toMatchObject(refused)
  await expect(read('/staff/ws', 'editors')).rejects.toMatchObject(refused)
  expect(started).toHaveLength(2)
})
