import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { createInternalListener, type InternalListenerOptions } from '../../src/admin/internal-listener.ts'
import { imbalanceByPool } from '../../src/admin/metrics.ts'
import type { OperatorEvent } from '../../src/gateway/operator.ts'
import { Turn } from '../../src/gateway/turn.ts'
import { type AdminServer, call, callJson, startAdminServer } from '../support/admin-server.ts'
import { fakeNode } from '../support/fake-operator.ts'

const started: AdminServer[] = []

async function start(change?: Partial<InternalListenerOptions>): Promise<AdminServer> {
  const admin = await startAdminServer(change)
  started.push(admin)
  return admin
}

afterEach(async () => {
  for (const admin of started.splice(0)) await admin[Symbol.asyncDispose]()
})

describe('nodes and sessions', () => {
  test('lists nodes, shows one, changes its weight', async () => {
    const { port, operator } = await start()
    const list = await call(port, 'GET', '/api/v1/nodes')
    expect(list.status).toBe(200)
    expect(list.headers['cache-control']).toBe('no-store')
    expect(list.json.map((node: { id: string }) => node.id)).toEqual(['a', 'b'])
    expect((await call(port, 'GET', '/api/v1/nodes/a')).json).toMatchObject({ id: 'a', weight: 1 })
    expect((await callJson(port, 'PATCH', '/api/v1/nodes/a', { weight: 2.5 })).json).toMatchObject({
      weight: 2.5,
    })
    expect(operator.calls).toEqual([{ method: 'setWeight', args: ['a', 2.5] }])
  })

  test('a drain answers 202 with the operation; body and content type may be missing', async () => {
    const { port, operator } = await start()
    const bare = await call(port, 'POST', '/api/v1/nodes/a/drain')
    expect(bare.status).toBe(202)
    expect(bare.json).toMatchObject({ kind: 'drain', subject: 'a', state: 'running' })
    await callJson(port, 'POST', '/api/v1/nodes/b/drain', { deadlineMs: 1000, ratePerSecond: 5 })
    expect(operator.calls.map((one) => one.args)).toEqual([
      ['a', {}],
      ['b', { deadlineMs: 1000, ratePerSecond: 5 }],
    ])
    expect((await call(port, 'POST', '/api/v1/nodes/a/activate')).json).toMatchObject({
      id: 'a',
      state: 'active',
    })
    expect((await call(port, 'GET', `/api/v1/operations/${bare.json.id}`)).json.id).toBe(bare.json.id)
    expect((await call(port, 'GET', '/api/v1/operations')).json).toHaveLength(2)
  })

  test('a canary answers 202 with its operation; what does not fit is named', async () => {
    const { port, operator } = await start()
    const order = { pool: 'chat', version: '2', percent: 0.1 }
    const started = await callJson(port, 'POST', '/api/v1/canaries', order)
    expect(started.status).toBe(202)
    expect(started.json).toMatchObject({
      kind: 'canary',
      state: 'running',
      canary: { id: 'c1', percent: 0.1 },
    })
    expect((await call(port, 'GET', '/api/v1/canaries')).json).toEqual(operator.canaryList)
    expect((await call(port, 'GET', '/api/v1/canaries/c1')).json).toMatchObject({ version: '2' })
    expect((await call(port, 'POST', '/api/v1/canaries/c1/promote')).json.canary.state).toBe('promoted')
    expect((await call(port, 'POST', '/api/v1/canaries/c1/return')).json.canary.state).toBe('returning')
    expect((await call(port, 'GET', '/api/v1/canaries/zz')).status).toBe(404)
    for (const [change, field] of [
      [{ percent: 0.05 }, 'percent'],
      [{ percent: 60 }, 'percent'],
      [{ watchMs: 999 }, 'watchMs'],
      [{ maxErrorRatio: 0.5 }, 'maxErrorRatio'],
      [{ version: '' }, 'version'],
      [{ speed: 1 }, 'speed'],
    ] as const) {
      const refused = await callJson(port, 'POST', '/api/v1/canaries', { ...order, ...change })
      expect([refused.status, refused.json.code]).toEqual([400, 'BAD_REQUEST'])
      expect(refused.json.detail).toContain(field)
    }
    const metrics = (await call(port, 'GET', '/metrics')).text
    expect(metrics).toContain('evenkeel_canary_share_ratio{pool="chat",version="2"} 0')
    expect(metrics).toContain('evenkeel_canary_state{pool="chat",version="2",state="returning"} 1')
    expect(metrics).toContain('evenkeel_canary_failures{pool="chat",version="2",side="others"} 2')
    expect(metrics).toContain('evenkeel_canary_moves_total{pool="chat",version="2",direction="to"} 1')
  })

  test('a drain of the gateway itself answers 202 too; of one that nobody knows, 404', async () => {
    const { port, operator } = await start()
    const answer = await call(port, 'POST', '/api/v1/gateways/gw-test/drain')
    expect(answer.status).toBe(202)
    expect(answer.json).toMatchObject({ kind: 'drain-gateway', subject: 'gw-test', state: 'running' })
    expect((await call(port, 'POST', '/api/v1/gateways/zz/drain')).json).toMatchObject({
      status: 404,
      code: 'NOT_FOUND',
    })
    expect((await callJson(port, 'POST', '/api/v1/gateways/gw-test/drain', { rate: 1 })).status).toBe(400)
    expect(operator.calls.map(({ args }) => args)).toEqual([['gw-test'], ['zz']])
  })

  test('pages sessions, filters by node, migrates and closes one; ids are percent-decoded', async () => {
    const { port, operator } = await start()
    const first = await call(port, 'GET', '/api/v1/sessions?limit=3')
    expect(first.json).toMatchObject({ next: '3' })
    const second = await call(port, 'GET', '/api/v1/sessions?limit=3&cursor=3')
    expect(second.json).toMatchObject({ sessions: [{ id: 's/4 ü' }], next: null })
    expect((await call(port, 'GET', '/api/v1/sessions?node=b')).json.sessions).toHaveLength(2)

    const odd = '/api/v1/sessions/s%2F4%20%C3%BC'
    expect((await call(port, 'GET', odd)).json.id).toBe('s/4 ü')
    const migration = await callJson(port, 'POST', `${odd}/migrate`, { to: 'a' })
    expect([migration.status, migration.json.subject]).toEqual([202, 's/4 ü'])
    expect(operator.calls).toEqual([{ method: 'migrate', args: ['s/4 ü', 'a'] }])
    const closed = await call(port, 'DELETE', odd)
    expect([closed.status, closed.text]).toEqual([204, ''])
    expect((await call(port, 'GET', odd)).status).toBe(404)
  })

  test('HEAD answers like GET, without a body', async () => {
    const { port } = await start()
    for (const path of ['/api/v1/nodes', '/api/v1/events', '/healthz']) {
      const answer = await call(port, 'HEAD', path)
      expect([path, answer.status, answer.text]).toEqual([path, 200, ''])
    }
  })
})

describe('upstreams', () => {
  test('are listed, added with 201 and removed with 204', async () => {
    const { port, operator } = await start()
    expect((await call(port, 'GET', '/api/v1/upstreams')).json).toEqual(operator.upstreamList)
    const body = { pool: 'legacy', url: 'http://10.0.0.7:3000', weight: 2.5, id: 'chat:7' }
    const added = await callJson(port, 'POST', '/api/v1/upstreams', body)
    expect([added.status, added.json]).toEqual([201, expect.objectContaining({ ...body, origin: 'store' })])
    const removed = await call(port, 'DELETE', '/api/v1/upstreams/chat%3A7')
    expect([removed.status, removed.text]).toEqual([204, ''])
    expect((await call(port, 'DELETE', '/api/v1/upstreams/chat%3A7')).json).toMatchObject({
      status: 404,
      code: 'NOT_FOUND',
    })
  })

  test.each([
    [{ pool: 'legacy' }, 400, 'url'],
    [{ url: 'http://10.0.0.7' }, 400, 'pool'],
    [{ pool: 'legacy', url: 'http://10.0.0.7', weight: 0 }, 400, 'weight'],
    [{ pool: 'legacy', url: 'http://10.0.0.7', wait: 1 }, 400, 'unknown key "wait"'],
    [{ pool: 'legacy', url: 'x'.repeat(513) }, 400, 'url'],
    [{ pool: 'legacy', url: 'http://169.254.169.254' }, 403, 'metadata'],
  ])('%j: %d', async (body, status, detail) => {
    const { port } = await start()
    const answer = await callJson(port, 'POST', '/api/v1/upstreams', body)
    expect([answer.status, answer.json.detail]).toEqual([status, expect.stringContaining(detail)])
  })
})

describe('rebalance', () => {
  test('one pool: the plan itself', async () => {
    const { port, operator } = await start()
    const plan = await callJson(port, 'POST', '/api/v1/rebalance', { dryRun: true })
    expect(plan.status).toBe(200)
    expect(plan.json).toEqual({
      pool: 'default',
      dryRun: true,
      moves: [{ from: 'a', to: 'b', count: 1 }],
      total: 1,
      imbalanceBefore: 0.5,
      imbalanceAfter: 0,
      operation: null,
    })
    const executed = await call(port, 'POST', '/api/v1/rebalance')
    expect(executed.json.operation).toMatchObject({ kind: 'rebalance', state: 'running' })
    expect(operator.calls.map((one) => one.args)).toEqual([[{ dryRun: true }], [{}]])
  })

  test('several pools: all plans, or the one that was asked for', async () => {
    const { port, operator } = await start()
    operator.nodeList.push(fakeNode('c', { pool: 'llm' }))
    const all = await callJson(port, 'POST', '/api/v1/rebalance', {})
    expect(all.json.plans.map((plan: { pool: string }) => plan.pool)).toEqual(['default', 'llm'])
    expect((await callJson(port, 'POST', '/api/v1/rebalance', { pool: 'llm' })).json.pool).toBe('llm')
    expect((await callJson(port, 'POST', '/api/v1/rebalance', { pool: 'nope' })).status).toBe(404)
    operator.nodeList.length = 0
    expect((await callJson(port, 'POST', '/api/v1/rebalance', {})).json).toEqual({ plans: [] })
  })
})

describe('who may call', () => {
  test('without a token only local Hosts and the own Origin', async () => {
    const { port } = await start()
    const host = `127.0.0.1:${port}`
    const verdicts = await Promise.all(
      [
        { host },
        { host, origin: `http://${host}` },
        { host: 'evil.example' },
        { host, origin: 'https://evil.example' },
        { host, origin: 'null' },
      ].map((headers) => call(port, 'POST', '/api/v1/nodes/a/drain', { headers })),
    )
    expect(verdicts.map((answer) => answer.status)).toEqual([202, 202, 403, 403, 403])
    expect((await call(port, 'GET', '/metrics', { headers: { host: 'evil.example' } })).status).toBe(403)
  })

  test('with a token the API and the metrics want it; health and the page stay open', async () => {
    const { port } = await start({ adminToken: 's3cret' })
    for (const path of ['/api/v1/nodes', '/api/v1/nope', '/api/v1', '/metrics']) {
      const refused = await call(port, 'GET', path, { headers: { authorization: 'Bearer wrong' } })
      expect([path, refused.status, refused.headers['www-authenticate']]).toEqual([
        path,
        401,
        'Bearer realm="evenkeel"',
      ])
      expect(refused.json.code).toBe('UNAUTHORIZED')
    }
    const headers = { host: 'gateway.internal', authorization: 'Bearer s3cret' }
    expect((await call(port, 'GET', '/api/v1/nodes', { headers })).status).toBe(200)
    expect((await call(port, 'GET', '/metrics', { headers })).status).toBe(200)
    for (const path of ['/healthz', '/readyz', '/']) expect((await call(port, 'GET', path)).status).toBe(200)
  })

  test('off loopback a token is required', async () => {
    const { operator } = await start()
    const options = {
      operator,
      metrics: { contentType: '', render: async () => '' },
      logger: console,
      listenHost: '0.0.0.0',
    }
    expect(() => createInternalListener({ ...options, adminToken: null } as never)).toThrow(
      /EVENKEEL_ADMIN_TOKEN/,
    )
    expect(() => createInternalListener({ ...options, adminToken: '' } as never)).toThrow(
      /EVENKEEL_ADMIN_TOKEN/,
    )
  })
})

test('health, readiness and the page', async () => {
  const { port, operator } = await start()
  expect((await call(port, 'GET', '/healthz')).json).toEqual({ status: 'ok', gateway: 'gw-test' })
  expect((await call(port, 'GET', '/readyz')).json).toEqual({ ready: true, reasons: [] })
  operator.ready = { ready: false, reasons: ['no node'] }
  const notReady = await call(port, 'GET', '/readyz')
  expect([notReady.status, notReady.json]).toEqual([503, { ready: false, reasons: ['no node'] }])
  const page = await call(port, 'GET', '/')
  expect(page.text).toContain('The dashboard was not built')
  expect(page.headers['content-security-policy']).toContain("default-src 'none'")
})

test('a call is served behind what is written in the turn that follows, and refused before', async () => {
  const turn = new Turn()
  const waiting: (() => void)[] = []
  turn.next = (step) => waiting.push(step)
  const { port, operator } = await start({ turn, adminToken: 'right' })
  const refused = await call(port, 'POST', '/api/v1/nodes/a/drain', {
    headers: { authorization: 'Bearer wrong' },
  })
  expect([refused.status, waiting.length]).toEqual([401, 0])
  const served = call(port, 'POST', '/api/v1/nodes/a/drain', {
    headers: { authorization: 'Bearer right' },
  })
  await expect.poll(() => waiting.length).toBe(1)
  expect(operator.calls).toEqual([])
  waiting[0]!()
  expect((await served).status).toBe(202)
})

test('upgrades are left to whoever listens for them', async () => {
  const { port, server } = await start()
  server.on('upgrade', (_request, socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'),
  )
  const outgoing = request({ host: '127.0.0.1', port, headers: { connection: 'upgrade', upgrade: 'x' } })
  outgoing.end()
  const [response, socket] = await once(outgoing, 'upgrade')
  expect(response.statusCode).toBe(101)
  socket.destroy()
})

describe('events', () => {
  const nodeDown: OperatorEvent = { at: 1, type: 'node-down', node: 'a', reason: 'silent', sessions: 2 }

  async function open(port: number): Promise<IncomingMessage> {
    const outgoing = request({ host: '127.0.0.1', port, path: '/api/v1/events', agent: false })
    outgoing.end()
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
    return incoming.setEncoding('utf8')
  }

  async function readUntil(stream: IncomingMessage, end: string): Promise<string> {
    let text = ''
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
      text += chunk
      if (text.includes(end)) break
    }
    return text
  }

  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await nextTurn()
  }

  test('arrive as Server-Sent Events, with a heartbeat, and end with their client', async () => {
    const { port, operator } = await start({ events: { heartbeatMs: 5 } })
    const ownListeners = operator.listeners.size
    const stream = await open(port)
    expect(stream.headers['content-type']).toMatch(/^text\/event-stream/)
    operator.emit(nodeDown)
    // A heartbeat may come before the event; one more has to follow it.
    await readUntil(stream, `event: node-down\ndata: ${JSON.stringify(nodeDown)}\n\n:\n\n`)
    stream.destroy()
    await until(() => operator.listeners.size === ownListeners)
  })

  test('a client that does not read is dropped, the others are not', async () => {
    const { port, operator } = await start({ events: { bufferBytesMax: 64 * 1024 } })
    const ownListeners = operator.listeners.size
    const lazy = await open(port)
    lazy.pause()
    const reader = await open(port)
    let received = 0
    reader.on('data', (chunk: string) => {
      received += chunk.length
    })
    const large: OperatorEvent = { ...nodeDown, reason: 'x'.repeat(32 * 1024) }
    for (let sent = 0; operator.listeners.size === ownListeners + 2; sent++) {
      if (sent === 10_000) throw new Error('the client was never dropped')
      const before = received
      operator.emit(large)
      await until(() => received > before)
    }
    const before = received
    operator.emit(large)
    await until(() => received > before)
    expect(operator.listeners.size).toBe(ownListeners + 1)
    lazy.destroy()
    reader.destroy()
  })

  test('their number is bounded', async () => {
    const { port, operator } = await start({ events: { streamsMax: 1 } })
    const ownListeners = operator.listeners.size
    const first = await open(port)
    expect((await call(port, 'GET', '/api/v1/events')).status).toBe(429)
    first.destroy()
    await until(() => operator.listeners.size === ownListeners)
    const second = await open(port)
    expect(second.statusCode).toBe(200)
    second.destroy()
  })
})

describe('metrics', () => {
  test('are read from the operator at every scrape', async () => {
    const { port, operator } = await start()
    operator.nodeList.push(
      fakeNode('c', { state: 'down', health: 'down', linkRttMs: null, sessions: 0, share: 0 }),
    )
    operator.emit({
      at: 1,
      type: 'migration',
      session: 's1',
      from: 'a',
      to: 'b',
      reason: 'drain',
      outcome: 'moved',
      pauseMs: 0.2,
      held: 0,
    })
    operator.emit({
      at: 2,
      type: 'migration',
      session: 's1',
      from: 'b',
      to: 'a',
      reason: 'drain',
      outcome: 'refused',
      pauseMs: null,
      held: 0,
    })
    const { text, headers } = await call(port, 'GET', '/metrics')
    expect(headers['content-type']).toMatch(/^text\/plain/)
    for (const line of [
      'evenkeel_sessions{node="a",transport="websocket"} 2',
      'evenkeel_connections{transport="websocket"} 3',
      'evenkeel_messages_total{direction="in"} 10',
      'evenkeel_messages_total{direction="out"} 20',
      'evenkeel_migrations_total{reason="drain",outcome="moved"} 1',
      'evenkeel_migrations_total{reason="drain",outcome="refused"} 1',
      'evenkeel_migration_pause_seconds_bucket{le="0.0001"} 0',
      'evenkeel_migration_pause_seconds_bucket{le="0.00025"} 1',
      'evenkeel_migration_pause_seconds_count 1',
      'evenkeel_messages_lost_total 0',
      'evenkeel_messages_duplicated_total 0',
      'evenkeel_messages_redelivered_total 2',
      'evenkeel_stale_frames_dropped_total 1',
      'evenkeel_imbalance_ratio{pool="default"} 0',
      'evenkeel_node_up{node="a"} 1',
      'evenkeel_node_up{node="c"} 0',
      'evenkeel_link_rtt_seconds{node="a"} 0.0004',
      'evenkeel_backpressure_pauses_total 4',
      'evenkeel_slow_consumers_total{action="close"} 5',
      'evenkeel_resumes_total{result="taken"} 2',
      'evenkeel_detached_sessions 6',
      'evenkeel_runs{state="running"} 7',
      'evenkeel_runs{state="read"} 8',
      'evenkeel_run_tokens_total 900',
      'evenkeel_runs_started_total 10',
      'evenkeel_runs_ended_total{outcome="cancelled"} 12',
      'evenkeel_upstreams{pool="legacy",health="healthy"} 1',
      'evenkeel_upstream_probes_total{result="success"} 7',
      'evenkeel_upstream_probes_total{result="void"} 1',
      'evenkeel_upstream_ejections_total{cause="error-response"} 3',
      'evenkeel_degraded 0',
      'evenkeel_publishes_failed_total 0',
    ]) {
      expect(text.split('\n')).toContain(line)
    }
    expect(text).toMatch(/^evenkeel_event_loop_lag_seconds [\d.e-]+$/m)
    expect(text).toContain('evenkeel_process_resident_memory_bytes')
    expect(text).not.toContain('evenkeel_link_rtt_seconds{node="c"}')

    operator.nodeList.splice(0, 1)
    operator.counters.messagesIn = 11
    const later = await call(port, 'GET', '/metrics')
    expect(later.text).not.toContain('node="a"')
    expect(later.text).toContain('evenkeel_messages_total{direction="in"} 11')
  })

  test('imbalance is the largest relative distance from the fair share', () => {
    const nodes = [
      fakeNode('a', { sessions: 9, share: 0.9, fairShare: 0.5 }),
      fakeNode('b', { sessions: 1, share: 0.1, fairShare: 0.5 }),
      fakeNode('c', { sessions: 0, share: 0, fairShare: 0, state: 'draining' }),
      fakeNode('d', { pool: 'empty', sessions: 0, share: 0, fairShare: 1 }),
    ]
    expect([...imbalanceByPool(nodes)]).toEqual([
      ['default', 0.8],
      ['empty', 0],
    ])
  })
})
