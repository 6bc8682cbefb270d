import { once } from 'node:events'
import type { RunContext, SessionHandlers, SessionMeta } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { connect } from '../../client/index.ts'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { ask, llmConfig, startLlmServer } from '../support/llm.ts'
import { modelOf } from '../support/llm-story.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { startRunNode, tell, words } from '../support/run-nodes.ts'
import { linksOf, parentOf, Spans, traceparentOf } from '../support/spans.ts'
import { SseStream } from '../support/sse-stream.ts'
import { connectWs, startHttpUpstream, startUpstreamGateway, startWsUpstream } from '../support/upstreams.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const traceparent = `00-${traceId}-b7ad6b7169203331-01`
const tracestate = 'vendor=x1,other=y2'
const on = { tracing: { enabled: true }, rebalance: { enabled: false } } as const

/** Knows the meta of the sessions that came to it. */
function knowing(metas: SessionMeta[]): SessionHandlers {
  return { ...echo, open: (session) => void metas.push(session.meta) }
}

async function open(
  gateway: TestGateway,
  headers: Record<string, string> = {},
  path = '',
): Promise<WebSocket> {
  const ws = new WebSocket(`${gateway.wsUrl}${path}`, { headers })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

test('a connect is a child of the client’s span, its assignment of it, and a migration a trace that points there', async () => {
  const spans = Spans.collect()
  const gateway = await startTestGateway(on)
  const metas: SessionMeta[] = []
  await startTestNode(gateway, knowing(metas), { id: 'a' })
  const ws = await open(gateway, { traceparent, tracestate, authorization: 'secret-1' }, '?token=secret-2')

  const connected = await spans.last('evenkeel.connect')
  const assigned = await spans.last('evenkeel.assign')
  const own = traceparentOf(connected.spanContext())
  expect(parentOf(connected)).toBe(traceparent)
  expect(connected.spanContext().traceState?.serialize()).toBe(tracestate)
  const { id } = gateway.operator.sessions().sessions[0]!
  expect(connected.attributes).toEqual({
    'http.request.method': 'GET',
    'http.route': '/ws',
    'evenkeel.transport': 'websocket',
    'evenkeel.pool': 'default',
    'evenkeel.session': id,
    'evenkeel.node': 'a',
    'evenkeel.outcome': 'opened',
  })
  expect(parentOf(assigned)).toBe(own)
  expect(assigned.attributes).toEqual({
    'evenkeel.session': id,
    'evenkeel.pool': 'default',
    'evenkeel.node': 'a',
    'evenkeel.term': 1,
    'evenkeel.reason': 'opened',
    'evenkeel.policy': 'weighted-least-connections',
  })

  await startTestNode(gateway, knowing(metas), { id: 'b' })
  gateway.operator.migrate(id, 'b')
  const migrated = await spans.last('evenkeel.migrate')
  expect([parentOf(migrated), linksOf(migrated)]).toEqual([null, [own]])
  expect(migrated.spanContext().traceId).not.toBe(traceId)
  expect(migrated.attributes).toEqual({
    'evenkeel.session': id,
    'evenkeel.pool': 'default',
    'evenkeel.from': 'a',
    'evenkeel.to': 'b',
    'evenkeel.reason': 'operator',
    'evenkeel.outcome': 'moved',
    'evenkeel.term': 2,
    'evenkeel.held_messages': 0,
    'evenkeel.pause_ms': expect.any(Number),
  })
  expect(migrated.events.map(({ name }) => name)).toEqual(['evenkeel.quiesce'])
  expect(spans.named('evenkeel.assign')).toHaveLength(1)

  await expect.poll(() => metas.length).toBe(2)
  for (const { headers } of metas) expect(headers).toMatchObject({ traceparent: own, tracestate })
  ws.close()
  const text = JSON.stringify(
    spans.ended.map(({ name, attributes, events }) => ({ name, attributes, events })),
  )
  expect(text).not.toMatch(/secret|127\.0\.0\.1|token/)
})

test('a client without a trace begins one; one that is refused says why', async () => {
  const spans = Spans.collect()
  const gateway = await startTestGateway({ ...on, limits: { waitForNodeMs: 0 } })
  const response = await fetch(`${gateway.httpUrl}/sse`)
  expect(response.status).toBe(503)
  const refused = await spans.last('evenkeel.connect')
  expect(parentOf(refused)).toBe(null)
  expect(refused.attributes).toMatchObject({
    'evenkeel.outcome': 'refused',
    'evenkeel.transport': 'sse',
    'http.response.status_code': 503,
    'error.type': 'NO_NODE',
  })
  expect(refused.status.code).toBe(2)
  const ws = new WebSocket(gateway.wsUrl)
  ws.on('error', () => {})
  await once(ws, 'unexpected-response')
  const upgrade = await spans.last('evenkeel.connect', 2)
  expect(upgrade.attributes).toMatchObject({ 'evenkeel.outcome': 'refused', 'error.type': 'NO_NODE' })
  ws.terminate()
})

test('a session that waits for a node and comes back keeps the context that it began with', async () => {
  const spans = Spans.collect()
  const gateway = await startTestGateway(on)
  const headers = { traceparent, accept: 'text/event-stream' }
  const first = await SseStream.open(gateway.httpUrl, { headers })
  const metas: SessionMeta[] = []
  const noNodeYet = Date.now()
  const node = await startTestNode(gateway, knowing(metas))
  const connected = await spans.last('evenkeel.connect')
  const own = traceparentOf(connected.spanContext())
  expect(connected.attributes).toMatchObject({ 'evenkeel.outcome': 'opened', 'evenkeel.node': 'a' })
  const assigned = await spans.last('evenkeel.assign')
  // It began to wait before there was a node; two clocks are compared.
  const [seconds, nanos] = assigned.startTime
  expect(seconds * 1_000 + nanos / 1e6).toBeLessThan(noNodeYet + 2)

  await first.next('session')
  first.cut()
  await expect.poll(() => gateway.operator.counters.connections.sse).toBe(0)
  await SseStream.open(gateway.httpUrl, { lastEventId: first.lastEventId })
  const resumed = await spans.last('evenkeel.connect', 2)
  expect(resumed.attributes).toMatchObject({
    'evenkeel.outcome': 'resumed',
    'evenkeel.session': connected.attributes['evenkeel.session'],
  })

  await node.stop()
  await startTestNode(gateway, knowing(metas), { id: 'b' })
  const recovered = await spans.last('evenkeel.assign', 2)
  expect([parentOf(recovered), linksOf(recovered)]).toEqual([null, [own]])
  expect(recovered.attributes).toMatchObject({ 'evenkeel.reason': 'recovered', 'evenkeel.node': 'b' })
  await expect.poll(() => metas.map(({ headers }) => headers.traceparent)).toEqual([own, own])
})

test('a run goes on in the trace of its request, one of a long connection points there; its producer continues it', async () => {
  const spans = Spans.collect()
  const gateway = await startTestGateway(on)
  const contexts: RunContext[] = []
  await startTestNode(gateway, echo)
  await startRunNode([gateway], {
    story: (request, context) => {
      contexts.push(context)
      return tell(request, context)
    },
  })
  await (
    await fetch(`${gateway.httpUrl}/runs`, {
      method: 'POST',
      headers: { traceparent, tracestate },
      body: JSON.stringify({ name: 'story', body: 'secret-1' }),
    })
  ).text()
  const made = await spans.last('evenkeel.run')
  expect(parentOf(made)).toBe(traceparent)
  expect(made.attributes).toEqual({
    'evenkeel.pool': 'default',
    'evenkeel.run.name': 'story',
    'evenkeel.run.epoch': 1,
    'evenkeel.producer': 'p1',
    'evenkeel.tokens': words.length,
    'evenkeel.outcome': 'complete',
  })
  expect(made.events.map(({ name }) => name)).toEqual(['evenkeel.first_token'])
  expect(contexts[0]).toMatchObject({ traceparent: traceparentOf(made.spanContext()), tracestate })

  const client = connect(gateway.wsUrl)
  onTestFinished(() => client.close())
  const run = client.run('story', null)
  for await (const _ of run);
  const connected = await spans.last('evenkeel.connect')
  const linked = await spans.last('evenkeel.run', 2)
  expect([parentOf(linked), linksOf(linked)]).toEqual([null, [traceparentOf(connected.spanContext())]])
  expect(contexts[1]!.traceparent).toBe(traceparentOf(linked.spanContext()))
})

test('upstreams get the gateway’s context, whatever protocol it is', async () => {
  const spans = Spans.collect()
  const seen: (string | undefined)[] = []
  const http = await startHttpUpstream(({ headers }, response) => {
    seen.push(headers.traceparent as string)
    if (headers.accept !== 'text/event-stream') response.end('ok')
    else response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
  })
  const gateway = await startUpstreamGateway([http], { config: on })
  await (await fetch(`${gateway.httpUrl}/secret-path?secret-query`, { headers: { traceparent } })).text()
  const request = await spans.last('evenkeel.request')
  expect(parentOf(request)).toBe(traceparent)
  expect(request.attributes).toEqual({
    'http.request.method': 'GET',
    'http.route': '/*',
    'evenkeel.pool': 'legacy',
    'evenkeel.outcome': 'answered',
    'http.response.status_code': 200,
  })
  const stream = await fetch(`${gateway.httpUrl}/`, { headers: { accept: 'text/event-stream' } })
  const connected = await spans.last('evenkeel.connect')
  expect(connected.attributes).toMatchObject({ 'evenkeel.outcome': 'opened', 'evenkeel.transport': 'sse' })
  await stream.body!.cancel()

  const upgrades: (string | undefined)[] = []
  const ws = await startWsUpstream((_, { headers }) => void upgrades.push(headers.traceparent as string))
  const second = await startUpstreamGateway([ws], { config: on })
  await connectWs(second)
  const upgraded = await spans.last('evenkeel.connect', 2)

  const model = await startLlmServer()
  const third = await startTestGateway({ ...llmConfig([model]), ...on } as never)
  await (await ask(third, '/v1/chat/completions', modelOf({ tokens: 3 }), { traceparent })).text()
  const generated = await spans.last('evenkeel.llm')
  expect(parentOf(generated)).toBe(traceparent)
  expect(generated.attributes).toMatchObject({ 'http.route': '/v1/*', 'evenkeel.outcome': 'answered' })
  const [{ traceparent: asked }] = (await model.state()).headers as [{ traceparent?: string }]
  expect([...seen, ...upgrades, asked]).toEqual(
    [request, connected, upgraded, generated].map((span) => traceparentOf(span.spanContext())),
  )
})

test('sampling is the client’s, or with `link` the gateway’s own', async () => {
  const spans = Spans.collect()
  const unsampled = traceparent.replace(/01$/, '00')
  const metas: SessionMeta[] = []
  const gateway = await startTestGateway(on)
  await startTestNode(gateway, knowing(metas))
  await open(gateway, { traceparent: unsampled })
  await expect.poll(() => metas.length).toBe(1)
  const sent = metas[0]!.headers.traceparent!
  expect(sent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
  expect(sent).not.toBe(unsampled)
  expect(spans.ended).toEqual([])

  const other = await startTestGateway({ ...on, tracing: { enabled: true, clientContext: 'link' } })
  await startTestNode(other, knowing(metas))
  await open(other, { traceparent: unsampled })
  const connected = await spans.last('evenkeel.connect')
  expect([parentOf(connected), linksOf(connected)]).toEqual([null, [unsampled]])
})

test('off, and where nobody traces, everything passes through untouched', async () => {
  const spans = Spans.collect()
  for (const enabled of [false, true]) {
    if (enabled) Spans.stop()
    const metas: SessionMeta[] = []
    const contexts: RunContext[] = []
    const gateway = await startTestGateway({ ...on, tracing: { enabled, clientContext: 'parent' } })
    await startTestNode(gateway, knowing(metas))
    await startRunNode([gateway], {
      story: (request, context) => {
        contexts.push(context)
        return tell(request, context)
      },
    })
    await open(gateway, { traceparent, tracestate })
    await open(gateway)
    await expect.poll(() => metas.length).toBe(2)
    expect(metas[0]!.headers).toMatchObject({ traceparent, tracestate })
    expect(metas[1]!.headers).not.toHaveProperty('traceparent')
    const start = { method: 'POST', body: JSON.stringify({ name: 'story', body: null }) }
    await (await fetch(`${gateway.httpUrl}/runs`, { ...start, headers: { traceparent, tracestate } })).text()
    await (await fetch(`${gateway.httpUrl}/runs`, start)).text()
    expect(contexts[0]).toMatchObject({ traceparent, tracestate })
    expect(contexts[1]).not.toHaveProperty('traceparent')
  }
  expect(spans.ended).toEqual([])
})

test('a gateway that ends has its spans sent', async () => {
  const spans = Spans.collect()
  const gateway = await startTestGateway(on)
  await gateway.close()
  expect(spans.flushes).toBe(1)
})

test('off, the package is not looked for; on, without it the gateway says what to do', async () => {
  const hook = `
    import { registerHooks } from 'node:module'
    registerHooks({
      resolve(specifier, context, next) {
        // prom-client has it for a dependency of its own.
        const isOurs = context.parentURL?.includes('/src/') === true && !context.parentURL.includes('node_modules')
        if (isOurs && specifier.startsWith('@opentelemetry/')) throw new Error('looked for ' + specifier)
        return next(specifier, context)
      },
    })`
  const start = (enabled: boolean, onLine: (line: string) => void = () => {}) => {
    const child = startChild({
      name: 'gateway',
      script: 'src/cli/main.ts',
      args: ['gateway', '--host', '127.0.0.1', '--port', '0', '--internal-port', '0'],
      env: {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hook)}`,
        EVENKEEL_TRACING_ENABLED: String(enabled),
      },
      onLine,
    })
    onTestFinished(async () => void (await kill(child)))
    return child
  }
  const ready = Promise.withResolvers<void>()
  const off = start(false, (line) => line.includes('"gateway ready"') && ready.resolve())
  const without = start(true)
  await orExit(off, ready.promise)
  expect((await without.exited).code).toBe(1)
  expect(without.log()).toMatch(/tracing\.enabled: .*npm install @opentelemetry\/api/)
})
