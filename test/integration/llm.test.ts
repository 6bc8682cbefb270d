import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startGatewayChild } from '../support/gateway-child.ts'
import type { TestGateway } from '../support/in-process.ts'
import { ask, counters, llmConfig, startLlmGateway, startLlmServer } from '../support/llm.ts'
import { modelOf } from '../support/llm-story.ts'
import { RedisServer } from '../support/redis.ts'

const paths = ['/v1/chat/completions', '/v1/responses', '/v1/messages', '/api/chat']

test.each(paths)(
  '%s: the bytes are those of the server, while it answers and for readers of the run',
  async (path) => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    for (const order of [
      { tokens: 30 },
      { tokens: 5, piece: 1 },
      { tokens: 12, crlf: true, comments: true, piece: 7 },
    ]) {
      const model = modelOf(order)
      const direct = await (await ask(server, path, model)).text()
      const response = await ask(gateway, path, model)
      expect(response.status).toBe(200)
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache, no-transform',
        'x-accel-buffering': 'no',
        'x-served-by': 'm1',
      })
      expect(await response.text()).toBe(direct)
      const run = response.headers.get('x-run-id')!
      const replay = await (await fetch(`${gateway.httpUrl}/runs/${run}/events`)).text()
      expect(replay.replaceAll(/^id: 1-\d+\n/gm, '')).toBe(direct)
    }
  },
)

const chat = '/v1/chat/completions'

test('what is no stream goes through as it is: answers, errors, other methods and paths', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server])
  const plain = await ask(gateway, chat, modelOf({}), {}, { stream: false })
  expect(plain.headers.get('x-run-id')).toBe(null)
  expect(await plain.json()).toMatchObject({ choices: [{ message: { content: 'whole' } }] })
  const refused = await ask(gateway, chat, modelOf({ status: 429 }))
  expect([refused.status, refused.headers.get('x-upstream')]).toEqual([429, 'yes'])
  expect(await refused.json()).toEqual({ error: { message: 'status 429', type: 'mock' } })
  expect(await (await fetch(`${gateway.httpUrl}/v1/models`)).json()).toEqual({ got: '/v1/models' })
  expect((await server.state()).headers[0]).toMatchObject({
    host: new URL(gateway.httpUrl).host,
    'x-forwarded-for': '127.0.0.1',
  })
})

test('without a server the client hears it in its dialect', async () => {
  const gateway = await startLlmGateway(['http://127.0.0.1:1'], { limits: { waitForNodeMs: 0 } })
  const openai = await ask(gateway, chat, modelOf({}))
  expect(openai.headers.get('retry-after')).toBe('1')
  expect([openai.status, await openai.json()]).toEqual([
    503,
    {
      error: {
        message: 'no node of pool models can take a session now; try again later',
        type: 'server_error',
        param: null,
        code: 'NO_NODE',
      },
    },
  ])
  const anthropic = await ask(gateway, '/v1/messages', modelOf({}))
  expect(await anthropic.json()).toMatchObject({ type: 'error', error: { type: 'overloaded_error' } })
  const wrong = await ask(gateway, chat, modelOf({}), { 'x-run-mode': 'sometimes' })
  expect([wrong.status, await wrong.json()]).toMatchObject([400, { error: { code: 'BAD_REQUEST' } }])
})

test('half an event is not passed on: what is there when the server is lost can be read', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server])
  const whole = await (await ask(server, chat, modelOf({ tokens: 5 }))).text()
  const response = await ask(gateway, chat, modelOf({ tokens: 5, cut: 3, half: true }))
  const blocks = (await response.text()).split(/(?<=\n\n)/)
  expect(blocks.slice(0, 3)).toEqual(whole.split(/(?<=\n\n)/).slice(0, 3))
  expect(blocks.slice(3)).toEqual([expect.stringMatching(/^data: \{"error":.*"PRODUCER_LOST"/)])
})

describe('asked again', () => {
  test('where no byte of an answer came, and never behind one', async () => {
    const [first, second] = [await startLlmServer('m1'), await startLlmServer('m2')]
    const gateway = await startLlmGateway([first, second])
    const reset = await ask(gateway, chat, modelOf({ reset: true }))
    expect(reset.status).toBe(502)
    expect([(await first.state()).asked, (await second.state()).asked]).toEqual([1, 1])
    const cut = await ask(gateway, chat, modelOf({ cut: 0 }))
    expect(cut.status).toBe(200)
    expect(await cut.text()).toMatch(/^data: \{"error":\{.*"code":"PRODUCER_LOST"\}\}\n\n$/)
    expect((await first.state()).asked + (await second.state()).asked).toBe(3)
  })

  test('an application is asked once, also over a connection that was kept', async () => {
    const [first, second] = [await startLlmServer('m1'), await startLlmServer('m2')]
    const gateway = await startLlmGateway([first, second])
    for (let i = 0; i < 3; i++) await (await ask(gateway, '/api/chat', modelOf({ tokens: 1 }))).text()
    // One that is kept may end just when it is used again, and nobody would know what came of the request.
    expect((await first.state()).connections + (await second.state()).connections).toBe(3)
    expect((await ask(gateway, '/api/chat', modelOf({ reset: true }))).status).toBe(502)
    expect((await first.state()).asked + (await second.state()).asked).toBe(4)
  })
})

test('streams go to where the fewest are for the weight', async () => {
  const [first, second] = [await startLlmServer('m1'), await startLlmServer('m2')]
  const gateway = await startLlmGateway([
    { url: first.url, weight: 1 },
    { url: second.url, weight: 3 },
  ])
  const abort = new AbortController()
  const order = modelOf({ tokens: 10_000, everyMs: 50 })
  // Kept, since a response that nobody holds is cancelled.
  const responses: Response[] = []
  for (let i = 0; i < 40; i++) responses.push(await ask(gateway, chat, order, {}, {}, abort.signal))
  expect([(await first.state()).open, (await second.state()).open]).toEqual([10, 30])
  expect(responses.every(({ ok }) => ok)).toBe(true)
  abort.abort()
  await Promise.all([first, second].map((server) => server.until(({ open }) => open === 0)))
})

test('a server that is drained ends its streams, and gets no new ones', async () => {
  const [first, second] = [await startLlmServer('m1'), await startLlmServer('m2')]
  const gateway = await startLlmGateway([first, second])
  const model = modelOf({ tokens: 60, everyMs: 10 })
  const whole = await (await ask(first, chat, model)).text()
  const begun = await ask(gateway, chat, model)
  const [busy, idle] = begun.headers.get('x-served-by') === 'm1' ? [first, second] : [second, first]
  const late = await ask(gateway, chat, modelOf({ tokens: 10_000, everyMs: 10 }))
  gateway.operator.drain(busy.id)
  gateway.operator.drain(idle.id, { deadlineMs: 100 })
  expect(await late.text()).toMatch(/data: \{"error":\{"message":"the server is drained[^\n]*\n\n$/)
  expect((await ask(gateway, chat, model)).status).toBe(503)
  expect(await begun.text()).toBe(whole)
})

test('the same key leads to the same server, while that has its share and lives', async () => {
  const servers = await Promise.all(['m1', 'm2', 'm3'].map((name) => startLlmServer(name)))
  const gateway = await startLlmGateway(servers, { route: { affinity: { body: 'metadata.chat' } } })
  const served = async (key: string) => {
    const response = await ask(gateway, chat, modelOf({ tokens: 1 }), {}, { metadata: { chat: key } })
    await response.text()
    return response.headers.get('x-served-by')!
  }
  const homes = new Map<string, string>()
  for (let i = 0; i < 24; i++) homes.set(`chat-${i}`, await served(`chat-${i}`))
  expect(new Set(homes.values()).size).toBe(3)
  for (const [key, home] of homes) expect(await served(key)).toBe(home)
  await servers[0]!.kill()
  for (const [key, home] of homes) {
    const now = await served(key)
    if (home === 'm1') expect(now).not.toBe('m1')
    else expect(now).toBe(home)
  }
})

test('heartbeats before the first token, and an error behind them in the stream', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server], { limits: { runHeartbeatMs: 1_000 } })
  const [good, bad] = await Promise.all([
    ask(gateway, chat, modelOf({ headMs: 2_200, tokens: 2 })),
    ask(gateway, chat, modelOf({ headMs: 2_200, status: 429 })),
  ])
  expect(good.headers.get('x-run-id')).toMatch(/^[\w-]{22}$/)
  const text = await good.text()
  expect(text).toMatch(/^(: hb\n\n)+data: \{/)
  expect(text).toMatch(/\[DONE\]\n\n$/)
  expect(await bad.text()).toMatch(/^(: hb\n\n)+data: \{"error":\{"message":"status 429",.*\}\}\n\n$/)
})

test('a server that is frozen is no reason to reassure anybody', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server], { limits: { runHeartbeatMs: 1_000 } })
  const response = await ask(gateway, chat, modelOf({ tokens: 3, everyMs: 100_000 }))
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  await reader.read()
  await server.kill('SIGSTOP')
  let text = ''
  for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value
  expect(text).toMatch(/^(: hb\n\n)*data: \{"error":\{.*"code":"PRODUCER_LOST"\}\}\n\n$/)
})

describe('runs', () => {
  const events = (gateway: TestGateway, run: string, after = '') =>
    fetch(`${gateway.httpUrl}/runs/${run}/events${after === '' ? '' : `?after=${after}`}`)

  const cancel = (gateway: TestGateway, run: string) =>
    fetch(`${gateway.httpUrl}/runs/${run}/cancel`, { method: 'POST' })

  const withoutIds = (text: string) => text.replaceAll(/^id: 1-\d+\n/gm, '')

  test('from any offset, at any gateway: the same bytes', async () => {
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server], { redis: redis.url, gatewayId: 'one' })
    // Nothing is looked at anew just because time has passed.
    const limits = { runSilenceMs: 60_000 }
    const other = await startLlmGateway([server], { redis: redis.url, gatewayId: 'two', limits })
    const burst = await ask(gateway, chat, modelOf({ tokens: 2_000, pad: 4_000 }))
    const long = await burst.text()
    const slow = connect(other.publicPort, '127.0.0.1')
    slow.write(`GET /runs/${burst.headers.get('x-run-id')}/events HTTP/1.0\r\nHost: x\r\n\r\n`)
    await once(slow, 'readable')
    await delay(300)
    const replay = await new Response(Readable.toWeb(slow) as never).text()
    expect(withoutIds(replay.slice(replay.indexOf('\r\n\r\n') + 4))).toBe(long)
    const model = modelOf({ tokens: 40, everyMs: 10 })
    const whole = await (await ask(server, chat, model)).text()
    const blocks = whole.split(/(?<=\n\n)/)
    const response = await ask(gateway, chat, model)
    const run = response.headers.get('x-run-id')!
    const [own, live, elsewhere] = await Promise.all([
      response.text(),
      events(gateway, run).then((answer) => answer.text()),
      events(other, run).then((answer) => answer.text()),
    ])
    expect(own).toBe(whole)
    expect(withoutIds(live)).toBe(whole)
    expect(withoutIds(elsewhere)).toBe(whole)
    for (let n = 1; n <= blocks.length; n++) {
      const rest = await events([gateway, other][n % 2]!, run, `1-${n}`)
      expect(withoutIds(await rest.text())).toBe(blocks.slice(n).join(''))
    }
    expect((await events(other, run, `1-${blocks.length + 1}`)).status).toBe(204)
    expect((await events(other, run, '1-9999')).status).toBe(410)
  })

  test('cancelled by its id, from another gateway: everybody hears it and the server stops', async () => {
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server], { redis: redis.url, gatewayId: 'one' })
    const other = await startLlmGateway([server], { redis: redis.url, gatewayId: 'two' })
    const response = await ask(gateway, chat, modelOf({ tokens: 10_000, everyMs: 10 }))
    const run = response.headers.get('x-run-id')!
    const reading = events(other, run).then((answer) => answer.text())
    await server.until(({ open }) => open === 1)
    expect(await (await cancel(other, run)).json()).toMatchObject({ status: 'ended', outcome: 'cancelled' })
    const ending = /data: \{"error":\{"message":"the run was cancelled",.*"code":"CANCELLED"\}\}\n\n$/
    expect(await response.text()).toMatch(ending)
    expect(await reading).toMatch(ending)
    await server.until(({ open }) => open === 0)
    expect((await cancel(gateway, run)).status).toBe(200)
  })

  test('a log in memory has at once what was passed on, for whoever asks', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    const model = modelOf({ tokens: 1_000, everyMs: 20 })
    const response = await ask(gateway, chat, model, { 'x-run-mode': 'durable' })
    const run = response.headers.get('x-run-id')!
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    let seen = ''
    while (seen.split('\n\n').length < 5) seen += (await reader.read()).value
    expect(Number((await gateway.runs.status(run)).offset.split('-')[1])).toBeGreaterThanOrEqual(4)
    while (seen.split('\n\n').length < 10) seen += (await reader.read()).value
    await cancel(gateway, run)
    expect(withoutIds(await (await events(gateway, run)).text()).startsWith(seen)).toBe(true)
  })

  test('durable: a client that goes leaves a run that goes on', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    const abort = new AbortController()
    const model = modelOf({ tokens: 30, everyMs: 10 })
    const response = await ask(gateway, chat, model, { 'x-run-mode': 'durable' }, {}, abort.signal)
    const run = response.headers.get('x-run-id')!
    abort.abort()
    const whole = await (await ask(server, chat, model)).text()
    expect(withoutIds(await (await events(gateway, run)).text())).toBe(whole)
    expect((await server.state()).gone).toEqual([])
    expect((await server.state()).headers[0]).not.toHaveProperty('x-run-mode')
  })

  test('without Redis streams go on, but for durable ones; a log that is back takes runs again', async () => {
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server], { redis: redis.url, gatewayId: 'one' })
    const model = modelOf({ tokens: 60, everyMs: 10 })
    const whole = await (await ask(server, chat, model)).text()
    const begun = await ask(gateway, chat, model)
    expect(begun.headers.get('x-run-id')).not.toBe(null)
    await redis.kill()
    expect(await begun.text()).toBe(whole)
    const without = await ask(gateway, chat, model)
    expect(without.headers.get('x-run-id')).toBe(null)
    expect(await without.text()).toBe(whole)
    const durable = await ask(gateway, chat, model, { 'x-run-mode': 'durable' })
    expect([durable.status, await durable.json()]).toMatchObject([503, { error: { code: 'NOT_READY' } }])
    await redis.restart()
    for (;;) {
      const again = await ask(gateway, chat, modelOf({ tokens: 1 }))
      await again.text()
      if (again.headers.get('x-run-id') !== null) break
    }
  })

  test('a gateway that is killed ends its streams; whoever reads them elsewhere is told so', async () => {
    const redis = await RedisServer.start()
    onTestFinished(() => redis.stop())
    const server = await startLlmServer()
    const limits = { runLeaseMs: 1_500, runLeaseRefreshMs: 300 }
    const killed = await startGatewayChild({
      ...llmConfig([server], { limits }),
      redis: redis.url,
      gatewayId: 'killed',
    })
    const other = await startLlmGateway([server], { redis: redis.url, gatewayId: 'two', limits })
    const at = { httpUrl: `http://127.0.0.1:${killed.publicPort}` }
    const response = await ask(at, chat, modelOf({ tokens: 10_000, everyMs: 10 }), {
      'x-run-mode': 'durable',
    })
    const own = response.text().catch(() => 'cut')
    const reading = events(other, response.headers.get('x-run-id')!).then((answer) => answer.text())
    await server.until(({ open }) => open === 1)
    await delay(500)
    killed.signal('SIGKILL')
    expect(await own).toBe('cut')
    expect(await reading).toMatch(
      /^data: [^\n]*\nid: 1-1\n\n[\s\S]*data: \{"error":\{.*"code":"PRODUCER_LOST"\}\}\n\n$/,
    )
    await server.until(({ open }) => open === 0)
  })
})

test('a server that is made to wait for the log answers the next request as well', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server], { redis: redis.url, limits: { runUnackedBytes: 1 } })
  const model = modelOf({ tokens: 200, pad: 500 })
  const whole = await (await ask(server, chat, model)).text()
  for (let i = 0; i < 10; i++) expect(await (await ask(gateway, chat, model)).text()).toBe(whole)
  // One of the test's own, and one that was kept for all the others.
  expect((await server.state()).connections).toBe(2)
})

/** In buffers that something still needs: what waits for sockets, above all. */
function heldBytes(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().arrayBuffers
}

test('a client that does not read costs its share, is not waited for, and gets all in the end', async () => {
  const server = await startLlmServer()
  // Less than what sockets take to say that they have room again.
  const gateway = await startLlmGateway([server], { limits: { runReaderBytes: 20_000 } })
  const model = modelOf({ tokens: 3_000, pad: 8_000, crlf: true, comments: true })
  const whole = await (await ask(server, chat, model)).text()
  const before = heldBytes()
  const body = JSON.stringify({ model, stream: true })
  const socket = connect(gateway.publicPort, '127.0.0.1')
  socket.write(
    `POST ${chat} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  )
  await once(socket, 'readable')
  await server.until(({ open, asked }) => asked === 2 && open === 0)
  expect((await server.state()).gone).toEqual([])
  // The log, once, and nothing for the client. What is free is swept a moment after it was collected.
  const most = whole.length * 1.4 + 1024 * 1024
  await expect.poll(() => heldBytes() - before, { timeout: 10_000, interval: 100 }).toBeLessThan(most)
  // What waits for it is not written over by what others get.
  const other = modelOf({ tokens: 500, pad: 8_000 })
  expect(await (await ask(gateway, chat, other)).text()).toBe(await (await ask(server, chat, other)).text())
  const answer = new Response(Readable.toWeb(socket) as never)
  const text = await answer.text()
  const chunks = text.slice(text.indexOf('\r\n\r\n') + 4)
  expect(unchunked(Buffer.from(chunks)) === whole).toBe(true)
  expect(counters(gateway).ended).toEqual({ complete: 2, cancelled: 0, failed: 0 })
})

test('a client that never reads is dropped, and its generation ends', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server], { limits: { clientStallMs: 1_000 } })
  const body = JSON.stringify({ model: modelOf({ tokens: 10_000, everyMs: 5, pad: 20_000 }), stream: true })
  const socket = connect(gateway.publicPort, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.pause()
  socket.write(`POST ${chat} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  await server.until(({ open, asked }) => asked === 1 && open === 0)
  expect(counters(gateway).ended).toEqual({ complete: 0, cancelled: 1, failed: 0 })
})

function unchunked(bytes: Buffer): string {
  const pieces: Buffer[] = []
  for (let at = 0; ; ) {
    const end = bytes.indexOf('\r\n', at)
    const size = Number.parseInt(bytes.toString('latin1', at, end), 16)
    if (size === 0) return Buffer.concat(pieces).toString()
    pieces.push(bytes.subarray(end + 2, end + 2 + size))
    at = end + 2 + size + 2
  }
}

test('HTTP/1.0, and two requests at once on one connection', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server])
  const body = JSON.stringify({ model: modelOf({ tokens: 5, everyMs: 5 }), stream: true })
  const whole = await (await ask(server, chat, modelOf({ tokens: 5 }))).text()
  const say = async (text: string) => {
    const socket = connect(gateway.publicPort, '127.0.0.1')
    socket.write(text)
    return await new Response(Readable.toWeb(socket) as never).text()
  }
  const request = (version: string, more = '') =>
    `POST ${chat} HTTP/${version}\r\nHost: x\r\n${more}Content-Length: ${body.length}\r\n\r\n${body}`
  const old = await say(request('1.0'))
  expect(old.slice(old.indexOf('\r\n\r\n') + 4)).toBe(whole)
  const two = await say(request('1.1') + request('1.1', 'Connection: close\r\n'))
  const answers = two.split(/(?=HTTP\/1\.1 200)/)
  expect(answers).toHaveLength(2)
  for (const answer of answers)
    expect(unchunked(Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4)))).toBe(whole)
})

test('a gateway that stops says so in the stream', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server])
  const response = await ask(gateway, chat, modelOf({ tokens: 10_000, everyMs: 10 }))
  await server.until(({ open }) => open === 1)
  const text = response.text()
  await gateway.close()
  expect(await text).toMatch(/data: \{"error":\{"message":"the gateway stops.*\}\}\n\n$/)
  await server.until(({ open }) => open === 0)
})

test('a gateway that leaves lets streams end first, but not for ever', async () => {
  const server = await startLlmServer()
  const model = modelOf({ tokens: 60, everyMs: 10 })
  const whole = await (await ask(server, chat, model)).text()
  const stop = async (answerDrainMs: number) => {
    const gateway = await startGatewayChild(
      llmConfig([server], { limits: { gatewayDrainMs: 1, answerDrainMs } }),
    )
    const response = await ask({ httpUrl: `http://127.0.0.1:${gateway.publicPort}` }, chat, model)
    const text = response.text()
    gateway.signal('SIGTERM')
    const { code } = await gateway.exited
    return { text: await text, code }
  }
  expect(await stop(10_000)).toEqual({ text: whole, code: 0 })
  expect((await stop(1)).text).toMatch(/"the gateway stops.*\n\n$/)
})
