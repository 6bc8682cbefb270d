import { once } from 'node:events'
import { get, type IncomingMessage, type ServerResponse } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { Feed, moveStream, Reader, read } from '../support/event-feed.ts'
import { noSessions, settledValue, startHttpUpstream, startUpstreamGateway } from '../support/upstreams.ts'

test('a stream of events is a session; what the upstream writes arrives byte for byte', async () => {
  const written = 'retry: 5\n\n: hi\r\n\r\nid: a\ndata: grüße 🌊\n\ndata: x\rdata: y\r\rdata: unfinished'
  const upstream = await startHttpUpstream(async (_request, response) => {
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'x-app': 'yes',
      'cache-control': 'no-store',
    })
    for (const byte of Buffer.from(written)) {
      response.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    await finish.promise
    response.end()
  })
  const finish = Promise.withResolvers<void>()
  const gateway = await startUpstreamGateway([upstream])
  const reader = await read(gateway)
  expect(reader.response.headers).toMatchObject({ 'x-app': 'yes', 'cache-control': 'no-store' })
  await reader.until(() => reader.text.includes('data: y\r\r'))
  expect(gateway.operator.sessions().sessions).toMatchObject([
    { transport: 'sse', node: upstream.id, state: 'active', pool: 'legacy' },
  ])
  finish.resolve()
  await reader.until(() => reader.ended !== 'open')
  expect([reader.ended, reader.text]).toEqual(['end', written])
  await noSessions(gateway)
})

test('a client that leaves ends its stream at the upstream', async () => {
  const feed = new Feed()
  const upstream = await feed.start()
  const gateway = await startUpstreamGateway([upstream])
  const reader = await read(gateway)
  await reader.until(() => reader.text !== '')
  reader.response.destroy()
  await upstream.empty()
  await noSessions(gateway)
})

test('a client that does not read pauses its upstream', async () => {
  const block = Buffer.from(`data: ${'x'.repeat(64 * 1024)}\n\n`)
  let response: ServerResponse | null = null
  const upstream = await startHttpUpstream((_request, one) => {
    response = one
    one.writeHead(200, { 'content-type': 'text/event-stream' })
    for (let i = 0; i < 512; i++) one.write(block)
    one.end()
  })
  const gateway = await startUpstreamGateway([upstream])
  const request = get(`http://127.0.0.1:${gateway.publicPort}/events`, { agent: false })
  onTestFinished(() => void request.destroy())
  const [client] = (await once(request, 'response')) as [IncomingMessage]
  expect(await settledValue(() => response!.writableLength)).toBeGreaterThan(8 * 1024 * 1024)
  const reader = new Reader(client)
  await reader.until(() => reader.ended !== 'open')
  expect([reader.ended, reader.text.length]).toEqual(['end', 512 * block.length])
})

test('streams with ids move by Last-Event-ID: nothing lost, nothing twice', async () => {
  await moveStream(40)
})

test('an upstream that is killed mid-event is followed by another one, spliced at an event', async () => {
  const feed = new Feed()
  const [first, second] = [await feed.start(), await feed.start()]
  const gateway = await startUpstreamGateway([first, second], { migrate: 'redial' })
  const reader = await read(gateway)
  for (let i = 0; i < 10; i++) feed.emit()
  await reader.until(() => reader.ids.length === 10)
  for (const stream of feed.streams) stream.write('id: 11\ndata: numb')
  const [session] = gateway.operator.sessions().sessions
  await (session!.node === first.id ? first : second).kill()
  for (let i = 0; i < 10; i++) feed.emit()
  await reader.until(() => reader.ids.length === 20)
  expect(reader.ids).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
  expect(reader.text).not.toContain('numb\n')
  expect(feed.asked.at(-1)).toBe('10')
})

test('without ids a stream does not move; when its upstream breaks it is cut, not ended', async () => {
  const streams: ServerResponse[] = []
  const plain = () =>
    startHttpUpstream((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: a\n\n')
      streams.push(response)
    })
  const [first, second] = [await plain(), await plain()]
  const gateway = await startUpstreamGateway([first, second], { migrate: 'redial' })
  const reader = await read(gateway)
  await reader.until(() => reader.text !== '')
  const [session] = gateway.operator.sessions().sessions
  const other = session!.node === first.id ? second.id : first.id
  expect(() => gateway.operator.migrate(session!.id, other)).toThrow(/cannot be moved/)
  streams[0]!.write('data: b\n\ndata: ha')
  await reader.until(() => reader.text.includes('b'))
  streams[0]!.socket!.resetAndDestroy()
  await reader.until(() => reader.ended !== 'open')
  expect([reader.ended, reader.text]).toEqual(['cut', 'data: a\n\ndata: b\n\n'])
})

test('a drain leaves streams alone until its deadline, then ends them with retry, between two events', async () => {
  const feed = new Feed()
  const [first, second] = [await feed.start(), await feed.start()]
  const gateway = await startUpstreamGateway([first, second])
  const reader = await read(gateway)
  feed.emit()
  await reader.until(() => reader.ids.length === 1)
  const [session] = gateway.operator.sessions().sessions
  const operation = gateway.operator.drain(session!.node!, { deadlineMs: 700 })
  const others = await Promise.all([read(gateway), read(gateway)])
  await Promise.all(others.map((one) => one.until(() => one.text !== '')))
  const elsewhere = gateway.operator.sessions().sessions.filter(({ id }) => id !== session!.id)
  expect(elsewhere.every(({ node }) => node !== session!.node)).toBe(true)
  feed.emit()
  await reader.until(() => reader.ids.length === 2)
  for (const stream of feed.streams) stream.write('id: 3\ndata: ha')
  await reader.until(() => reader.ended !== 'open')
  expect(reader.ended).toBe('end')
  expect(reader.text).toMatch(/data: 🌊\n\nretry: \d+\n\n$/u)
  while (gateway.operator.operation(operation.id).state === 'running')
    await new Promise((resolve) => setTimeout(resolve, 20))
  expect(gateway.operator.node(session!.node!).state).toBe('drained')
})
