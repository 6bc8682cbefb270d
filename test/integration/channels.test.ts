import { once } from 'node:events'
import type { SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

/** Messages are commands: `join room`, `leave room`; each is answered when it has been done. */
const commands: SessionHandlers = {
  message(session, data) {
    const [verb, channel = ''] = String(data).split(' ')
    if (verb === 'join') session.join(channel)
    else session.leave(channel)
    session.send(`done ${data}`)
  },
}

async function member(gateway: TestGateway, ...channels: string[]) {
  const ws = new WebSocket(gateway.wsUrl)
  onTestFinished(() => ws.terminate())
  const got: string[] = []
  await once(ws, 'open')
  ws.on('message', (data) => got.push(String(data)))
  const command = async (text: string) => {
    ws.send(text)
    await expect.poll(() => got.includes(`done ${text}`)).toBe(true)
    got.splice(got.indexOf(`done ${text}`), 1)
  }
  for (const channel of channels) await command(`join ${channel}`)
  return { ws, got, command }
}

test('members get what nodes and operators publish, in order', async () => {
  const gateway = await startTestGateway()
  const node = await startTestNode(gateway, commands)
  const [a, b, c] = [
    await member(gateway, 'news', 'sport'),
    await member(gateway, 'news'),
    await member(gateway),
  ]
  for (let i = 0; i < 20; i++) node.publish('news', `n${i}`)
  node.publish('sport', new Uint8Array([115]))
  const news = Array.from({ length: 20 }, (_, i) => `n${i}`)
  await expect.poll(() => a.got.toSorted()).toEqual([...news, 's'].toSorted())
  expect(a.got.filter((text) => text !== 's')).toEqual(news)
  await expect.poll(() => b.got).toEqual(news)
  expect(c.got).toEqual([])

  const answer = await gateway.operator.publish('news', 'from an operator')
  expect(answer).toEqual({ deliveredLocal: 2 })
  await expect.poll(() => b.got.at(-1)).toBe('from an operator')
  await b.command('leave news')
  await gateway.operator.publish('news', 'later')
  await expect.poll(() => a.got.at(-1)).toBe('later')
  expect(b.got).not.toContain('later')
})

test('membership survives migration and the death of the node', async () => {
  const gateway = await startTestGateway()
  const first = await startTestNode(gateway, commands, { id: 'a' })
  const { got } = await member(gateway, 'news')
  const second = await startTestNode(gateway, commands, { id: 'b' })
  const [session] = gateway.operator.sessions().sessions
  gateway.operator.migrate(session!.id, 'b')
  await expect.poll(() => gateway.operator.session(session!.id).node).toBe('b')
  first.publish('news', 'moved')
  await expect.poll(() => got).toEqual(['moved'])
  await second.stop()
  await expect.poll(() => gateway.operator.session(session!.id).node).toBe('a')
  first.publish('news', 'recovered')
  await expect.poll(() => got).toEqual(['moved', 'recovered'])
})

test('nodes can subscribe, and again when they have lost the link', async () => {
  const gateway = await startTestGateway()
  const publisher = await startTestNode(gateway, {}, { id: 'a' })
  const subscriber = await startTestNode(gateway, {}, { id: 'b' })
  const got: unknown[] = []
  const end = subscriber.subscribe('jobs', (data) => void got.push(data))
  await expect
    .poll(async () => {
      publisher.publish('jobs', 'one')
      return got.length
    })
    .toBeGreaterThan(0)
  got.length = 0
  publisher.publish('jobs', new Uint8Array([0, 255]))
  await expect.poll(() => got.at(-1)).toEqual(Buffer.from([0, 255]))
  end()
  publisher.publish('jobs', 'after the end')
  await new Promise(setImmediate)
  expect(got).not.toContain('after the end')
})

test('one channel too many is refused, the connection stays', async () => {
  const gateway = await startTestGateway({ limits: { channelsPerSession: 2 } })
  const warnings: string[] = []
  const logger = { info() {}, warn: (text: string) => void warnings.push(text), error() {} }
  const node = await startTestNode(gateway, commands, { logger })
  const { got, ws } = await member(gateway, 'one', 'two', 'three')
  await expect.poll(() => warnings.some((text) => text.includes('did not join three'))).toBe(true)
  node.publish('three', 'not for you')
  node.publish('two', 'for you')
  await expect.poll(() => got).toEqual(['for you'])
  expect(ws.readyState).toBe(WebSocket.OPEN)
})

test('names beyond their bounds are refused where they are given', async () => {
  const gateway = await startTestGateway()
  const node = await startTestNode(gateway, commands)
  for (const name of ['', 'x'.repeat(256), 'a\nb']) {
    expect(() => node.publish(name, 'x')).toThrow(expect.objectContaining({ code: 'BAD_REQUEST' }))
    await expect(gateway.operator.publish(name, 'x')).rejects.toMatchObject({ code: 'BAD_REQUEST' })
  }
  expect(() => node.publish('x', 'y'.repeat(1024 * 1024 + 1))).toThrow(
    expect.objectContaining({ code: 'TOO_LARGE' }),
  )
})

test.each(['close', 'drop', 'coalesce'] as const)('a member that does not read: %s', async (slowConsumer) => {
  const gateway = await startTestGateway({ slowConsumer, limits: { clientBufferBytes: 64 * 1024 } })
  const node = await startTestNode(gateway, { open: (session) => session.join('flood') })
  const good = await member(gateway)
  const slow = new WebSocket(gateway.wsUrl)
  onTestFinished(() => slow.terminate())
  const got: string[] = []
  slow.on('message', (data) => got.push(String(data).slice(0, 8).trim()))
  let closedWith = 0
  slow.on('close', (code) => (closedWith = code))
  await once(slow, 'open')
  slow.pause()
  const count = 400
  let next = 0
  while (next < count) {
    const sent = next
    for (; next < sent + 20; next++) node.publish('flood', `${next}`.padEnd(32 * 1024))
    await expect.poll(() => good.got.length, { interval: 1 }).toBe(next)
  }
  slow.resume()
  if (slowConsumer === 'close') {
    await expect.poll(() => closedWith).toBe(4008)
    expect(gateway.operator.counters.slowConsumers.close).toBe(1)
  } else {
    await expect.poll(() => gateway.operator.counters.slowConsumers[slowConsumer]).toBeGreaterThan(0)
    if (slowConsumer === 'coalesce') await expect.poll(() => got.at(-1)).toBe(`${count - 1}`)
    expect(got.map(Number)).toEqual(got.map(Number).toSorted((a, b) => a - b))
    expect(closedWith).toBe(0)
  }
})
