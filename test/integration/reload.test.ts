import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ConfigView, ReloadReport } from '../../src/admin/config-api.ts'
import { run } from '../support/cli.ts'
import { echo, startTestNode } from '../support/in-process.ts'
import { type ReloadableGateway, startReloadable } from '../support/reloadable.ts'
import { startHttpUpstream } from '../support/upstreams.ts'

const call = (gateway: ReloadableGateway, method: string, path: string, body?: object) =>
  fetch(`${gateway.internalUrl}/api/v1${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  })

async function reload(gateway: ReloadableGateway, body: object = {}): Promise<ReloadReport> {
  const response = await call(gateway, 'POST', '/config/reload', body)
  expect(response.status).toBe(200)
  return (await response.json()) as ReloadReport
}

async function view(gateway: ReloadableGateway): Promise<ConfigView> {
  return (await (await call(gateway, 'GET', '/config')).json()) as ConfigView
}

async function outcomes(gateway: ReloadableGateway): Promise<Record<string, number>> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
  const lines = [...text.matchAll(/^evenkeel_config_reloads_total\{outcome="(\w+)"\} (\d+)$/gm)]
  return Object.fromEntries(lines.map(([, outcome, count]) => [outcome, Number(count)]))
}

async function connect(gateway: ReloadableGateway, path = '/ws', headers: Record<string, string> = {}) {
  const ws = new WebSocket(`${gateway.wsUrl.slice(0, -3)}${path}`, { headers })
  onTestFinished(() => ws.terminate())
  await Promise.race([
    once(ws, 'open'),
    once(ws, 'unexpected-response').then(([request, response]) => {
      request.destroy()
      throw new Error(`status ${response.statusCode}`)
    }),
  ])
  return ws
}

async function answer(ws: WebSocket, text: string): Promise<string> {
  ws.send(text)
  return String((await once(ws, 'message'))[0])
}

test('what was read holds, what needs a restart is named and waits, and a dry run only tells', async () => {
  const gateway = await startReloadable()
  await startTestNode(gateway, echo)
  const ws = await connect(gateway)
  const before = await view(gateway)
  gateway.write({
    allowedOrigins: ['https://a.example'],
    slowConsumer: 'drop',
    rebalance: { intervalMs: 500 },
    limits: { holdMs: 1_000, messageBytes: 4_096 },
    log: { level: 'debug' },
    internalUrl: 'ws://user:hunter2@elsewhere:1',
  })
  const planned = await reload(gateway, { dryRun: true })
  expect(planned.outcome).toBe('planned')
  expect(await view(gateway)).toEqual(before)
  await expect(connect(gateway, '/ws', { origin: 'https://a.example' })).rejects.toThrow('status 403')

  const applied = await reload(gateway)
  expect(applied).toEqual({ ...planned, outcome: 'applied' })
  expect(applied.changes).toEqual(
    expect.arrayContaining([
      { path: 'allowedOrigins', from: 'same-host', to: ['https://a.example'], effect: 'new' },
      { path: 'slowConsumer', from: 'close', to: 'drop', effect: 'live' },
      { path: 'rebalance.intervalMs', from: 10_000, to: 500, effect: 'live' },
      { path: 'limits.holdMs', from: 30_000, to: 1_000, effect: 'live' },
      { path: 'limits.messageBytes', from: 1_048_576, to: 4_096, effect: 'restart' },
      { path: 'log.level', from: 'info', to: 'debug', effect: 'live' },
      { path: 'internalUrl', to: 'ws://user:redacted@elsewhere:1/', effect: 'restart' },
    ]),
  )
  expect(applied.changes).toHaveLength(7)
  expect(gateway.operator.limits).toMatchObject({ holdMs: 1_000, messageBytes: 1_048_576 })
  await connect(gateway, '/ws', { origin: 'https://a.example' })
  expect(await answer(ws, 'still here')).toBe('still here')
  const after = await view(gateway)
  expect(after).toMatchObject({
    hash: applied.hash,
    file: gateway.file,
    pending: expect.toSatisfy(
      (paths: string[]) => paths.toSorted().join() === 'internalUrl,limits.messageBytes',
    ),
    config: { slowConsumer: 'drop', limits: { holdMs: 1_000, messageBytes: 1_048_576 } },
    lastReload: { outcome: 'applied' },
  })
  expect(after.hash).not.toBe(before.hash)

  expect((await reload(gateway)).outcome).toBe('unchanged')
  expect(await outcomes(gateway)).toEqual({ applied: 1, unchanged: 1, invalid: 0, failed: 0 })
  expect(JSON.stringify([gateway.log, after])).not.toContain('hunter2')
})

test('a bad file changes nothing and says everything that is wrong, with line and column', async () => {
  const gateway = await startReloadable({ allowedOrigins: ['https://a.example'] })
  const before = await view(gateway)
  const bad = 'allowedOrigins: "*"\npolicy: fastest\nlimits:\n  holdMS: 5\n'
  gateway.write(bad)
  const response = await call(gateway, 'POST', '/config/reload', {})
  expect(response.status).toBe(422)
  expect(response.headers.get('content-type')).toContain('application/problem+json')
  const mistakes = [
    { source: gateway.file, line: 2, column: 9, message: expect.stringContaining('policy: expected one of') },
    { source: gateway.file, line: 4, column: 3, message: expect.stringContaining('did you mean "holdMs"') },
  ]
  expect(await response.json()).toMatchObject({ code: 'CONFIG_INVALID', mistakes })
  expect(gateway.log).toContainEqual(
    expect.objectContaining({ msg: expect.stringContaining('not reloaded'), mistakes }),
  )
  expect(await view(gateway)).toEqual({
    ...before,
    lastReload: { at: expect.any(Number), outcome: 'invalid', mistakes },
  })

  // Each value by itself is right.
  gateway.write('routes:\n  - path: /x\n    pool: nowhere\n')
  const second = await call(gateway, 'POST', '/config/reload', {})
  expect(await second.json()).toMatchObject({
    mistakes: [
      { line: 3, column: 11, message: expect.stringContaining('routes[0].pool: expected one of pools') },
    ],
  })
  gateway.write('pool: [')
  expect((await call(gateway, 'POST', '/config/reload', { dryRun: true })).status).toBe(422)
  expect(await outcomes(gateway)).toEqual({ applied: 0, unchanged: 0, invalid: 2, failed: 0 })
})

test('upstreams come, change their weight and go; requests find those that are there', async () => {
  const [first, second] = await Promise.all([
    startHttpUpstream((_, response) => response.end('first')),
    startHttpUpstream((_, response) => response.end('second')),
  ])
  const gateway = await startReloadable()
  const get = async () => {
    const response = await fetch(`${gateway.httpUrl}/app`)
    return response.ok ? await response.text() : response.status
  }
  const routed = (...upstreams: object[]) => ({
    routes: [{ path: '/app', pool: 'app' }],
    pools: { app: { upstreams } },
  })
  expect(await get()).toBe(404)
  gateway.write(routed({ url: first!.url }))
  await reload(gateway)
  expect(await get()).toBe('first')
  gateway.write(routed({ url: first!.url, weight: 3 }, { url: second!.url }))
  await reload(gateway)
  const nodes = () => gateway.operator.nodes().map(({ weight, state }) => ({ weight, state }))
  expect(nodes()).toEqual([
    { weight: 3, state: 'active' },
    { weight: 1, state: 'active' },
  ])
  gateway.write(routed({ url: second!.url }))
  await reload(gateway)
  expect(await get()).toBe('second')
  expect((await Promise.all(Array.from({ length: 8 }, get))).every((body) => body === 'second')).toBe(true)
  // An address that is not allowed any more is not used any more.
  gateway.write({
    ...routed({ url: second!.url }),
    pools: { app: { upstreams: [second!.url], allowedAddresses: ['10.0.0.0/8'] } },
  })
  await reload(gateway)
  expect(await get()).toBe(503)
  gateway.write({})
  await reload(gateway)
  expect(await get()).toBe(404)
})

test('a pool of linked nodes does not become one of upstreams', async () => {
  const gateway = await startReloadable()
  await startTestNode(gateway, echo, { pool: 'chat' })
  const before = await view(gateway)
  gateway.write({ pools: { chat: { upstreams: ['http://127.0.0.1:9'] } }, allowedOrigins: '*' })
  const response = await call(gateway, 'POST', '/config/reload', {})
  expect(response.status).toBe(409)
  expect(await response.json()).toMatchObject({ detail: expect.stringContaining('node a is linked') })
  expect((await view(gateway)).hash).toBe(before.hash)
  expect(await outcomes(gateway)).toMatchObject({ failed: 1 })
})

test('a route is switched to another pool: new clients go there, those that are here stay', async () => {
  const routes = [{ name: 'chat', path: '/chat/ws', protocol: 'websocket', pool: 'blue' }]
  const gateway = await startReloadable({ routes })
  const named = (id: string) => ({
    message: (session: { send(data: string): unknown }) => void session.send(id),
  })
  await startTestNode(gateway, named('blue'), { id: 'blue-1', pool: 'blue' })
  await startTestNode(gateway, named('green'), { id: 'green-1', pool: 'green' })
  const early = await connect(gateway, '/chat/ws')
  const response = await call(gateway, 'PATCH', '/routes/chat', { pool: 'green' })
  expect(await response.json()).toMatchObject({ name: 'chat', pool: 'green', gateways: {} })
  const late = await connect(gateway, '/chat/ws')
  expect([await answer(early, '?'), await answer(late, '?')]).toEqual(['blue', 'green'])
  expect(await view(gateway)).toMatchObject({ changedRoutes: ['chat'] })

  await call(gateway, 'PATCH', '/routes/chat', { pool: 'blue', split: [{ pool: 'green', percent: 100 }] })
  expect(await answer(await connect(gateway, '/chat/ws'), '?')).toBe('green')
  expect(
    (await call(gateway, 'PATCH', '/routes/chat', { split: [{ pool: 'a b', percent: 5 }] })).status,
  ).toBe(422)
  expect((await call(gateway, 'PATCH', '/routes/other', { pool: 'green' })).status).toBe(404)
  expect((await call(gateway, 'PATCH', '/routes/chat', { percent: 4 })).status).toBe(400)

  // The file says how it was before.
  await reload(gateway)
  expect(await answer(await connect(gateway, '/chat/ws'), '?')).toBe('blue')
  expect(await view(gateway)).toMatchObject({ changedRoutes: [] })
})

test('operators reload from the command line, look first, and print what runs', async () => {
  const gateway = await startReloadable()
  const cli = (...args: string[]) => run(['config', ...args, '--url', gateway.internalUrl])
  gateway.write({ slowConsumer: 'drop', limits: { messageBytes: 4_096 } })
  const planned = await cli('reload', '--dry-run')
  expect(planned).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('slowConsumer: "close" → "drop"\n'),
  })
  expect(planned.stdout).toContain('limits.messageBytes: 1048576 → 4096 (after a restart)\n')
  expect((await view(gateway)).config).toMatchObject({ slowConsumer: 'close' })
  expect(await cli('reload')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/Reloaded: [0-9a-f]{16}\./),
  })
  expect((await cli('print')).stdout).toMatch(
    /^# gateway .*\n# waiting for a restart: limits.messageBytes\n[\s\S]*slowConsumer: drop/,
  )
  gateway.write('policy: fastest')
  expect(await cli('reload')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`${gateway.file}:1:9: policy`),
  })
})

test('policies, and which channels have a history, are those of the last reload', async () => {
  const quietly = { rebalance: { enabled: false } }
  const gateway = await startReloadable(quietly)
  await startTestNode(gateway, echo, { id: 'a', weight: 3 })
  await startTestNode(gateway, echo, { id: 'b' })
  const spread = async () => {
    for (let i = 0; i < 8; i++) await connect(gateway)
    return Object.fromEntries(gateway.operator.nodes().map(({ id, sessions }) => [id, sessions]))
  }
  expect(await spread()).toEqual({ a: 6, b: 2 })
  await gateway.operator.publish('room:1', 'x')
  expect(await gateway.operator.channelHistory('room:1')).toBeNull()
  gateway.write({ ...quietly, policy: 'round-robin', channels: { history: [{ match: 'room:*' }] } })
  await reload(gateway)
  expect(await spread()).toEqual({ a: 10, b: 6 })
  await gateway.operator.publish('room:1', 'x')
  expect(await gateway.operator.channelHistory('room:1')).not.toBeNull()
})
