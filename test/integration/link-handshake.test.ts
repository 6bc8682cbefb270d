import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { encodeRecord, json, u32s } from '../support/link-wire.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { dialLink, helloOf, ScriptedNode } from '../support/scripted-node.ts'

const rebalance = { enabled: false }

async function refusedStatus(gateway: TestGateway, options: ClientOptions, protocols = ['evenkeel-link.1']) {
  const ws = new WebSocket(new URL('/link', gateway.linkUrl), protocols, options)
  ws.on('error', () => {})
  const [request, response] = await once(ws, 'unexpected-response')
  request.destroy()
  return response.statusCode as number
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

describe('the upgrade', () => {
  test('without the token or with another one: 401', async () => {
    const gateway = await startTestGateway({}, { nodeToken: 'right' })
    const headers = [
      {},
      bearer('wrong'),
      bearer('righ'),
      bearer('rightt'),
      { headers: { authorization: 'right' } },
    ]
    const statuses = await Promise.all(headers.map((options) => refusedStatus(gateway, options)))
    expect(statuses).toEqual([401, 401, 401, 401, 401])
    const { ws } = await dialLink(gateway.linkUrl, bearer('right'))
    expect(ws.protocol).toBe('evenkeel-link.1')
  })

  test('without our subprotocol: 400', async () => {
    const gateway = await startTestGateway()
    expect(await refusedStatus(gateway, {}, [])).toBe(400)
    expect(await refusedStatus(gateway, {}, ['evenkeel-link.2', 'chat'])).toBe(400)
    const { ws } = await dialLink(gateway.linkUrl, {}, ['chat', 'evenkeel-link.1'])
    expect(ws.protocol).toBe('evenkeel-link.1')
  })

  test('without a token, from a foreign Host or Origin: 403', async () => {
    const gateway = await startTestGateway()
    const foreign: ClientOptions[] = [
      { headers: { host: 'evil.example' } },
      { headers: { host: '127.0.0.1.evil.example' } },
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `https://127.0.0.1:${gateway.internalPort}` },
      { origin: `http://127.0.0.1:${gateway.publicPort}` },
    ]
    const statuses = await Promise.all(foreign.map((options) => refusedStatus(gateway, options)))
    expect(statuses).toEqual(foreign.map(() => 403))
    await dialLink(gateway.linkUrl, { origin: `http://127.0.0.1:${gateway.internalPort}` })
  })

  test('with a token the Host does not matter', async () => {
    const gateway = await startTestGateway({}, { nodeToken: 'right' })
    await dialLink(gateway.linkUrl, { headers: { ...bearer('right').headers, host: 'gateway.internal' } })
  })

  test('one that is refused and then reset harms nobody', async () => {
    const gateway = await startTestGateway({}, { nodeToken: 'right' })
    const common = 'Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
    for (const path of ['/link', '/elsewhere']) {
      for (let i = 0; i < 20; i++) {
        const socket = connect(gateway.internalPort, '127.0.0.1')
        socket.on('error', () => {})
        await once(socket, 'connect')
        socket.write(`GET ${path} HTTP/1.1\r\n${common}\r\n`)
        // The reset meets the refusal at each stage: not read, being written, written.
        for (let turns = 0; turns < i % 5; turns++) await nextTurn()
        socket.resetAndDestroy()
        await once(socket, 'close')
      }
    }
    await dialLink(gateway.linkUrl, bearer('right'))
  })
})

describe('the handshake', () => {
  const sends = async (gateway: TestGateway, ...messages: (Buffer | string)[]) => {
    const { ws, ended } = await dialLink(gateway.linkUrl)
    for (const message of messages) ws.send(message)
    return ended
  }
  const hello = (change: Record<string, unknown> = {}) =>
    encodeRecord('hello', { body: json(helloOf('a', change)) })

  test('no HELLO in time: 4408', async () => {
    const gateway = await startTestGateway({ limits: { handshakeMs: 100 } })
    expect(await sends(gateway)).toEqual({ code: 4408, reason: 'no HELLO in time' })
    expect(gateway.operator.nodes()).toEqual([])
  })

  test('HELLO in time stops the clock', async () => {
    const gateway = await startTestGateway({ limits: { handshakeMs: 300 } })
    const node = await ScriptedNode.link(gateway)
    const late = sends(gateway)
    expect((await late).code).toBe(4408)
    await node.settled()
  })

  test('another record first: 4400, and the reason says which', async () => {
    const gateway = await startTestGateway()
    const firsts = [
      ['REPORT', encodeRecord('report', { body: json({ sessions: 0, eventLoopLagMs: 0 }) })],
      ['SUBSCRIBE', encodeRecord('subscribe', { body: Buffer.from('news') })],
      ['COMMIT', encodeRecord('commit', { session: 1, term: 1, body: u32s([1]) })],
    ] as const
    for (const [kind, record] of firsts) {
      expect(await sends(gateway, Buffer.concat([record, hello()]))).toEqual({
        code: 4400,
        reason: `the first record must be HELLO, not ${kind}`,
      })
    }
    expect(gateway.operator.nodes()).toEqual([])
  })

  test('what is no record, no HELLO, or a HELLO with a bad field: 4400, and the reason says what', async () => {
    const gateway = await startTestGateway()
    const bad: [Buffer | string, RegExp][] = [
      [encodeRecord('drained'), /^DRAINED does not come from a node$/],
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), /does not fit the message/],
      [JSON.stringify(helloOf('a')), /must be binary/],
      [encodeRecord('hello', { body: Buffer.from('{x') }), /^HELLO is not JSON$/],
      [encodeRecord('hello', { session: 1, body: json({}) }), /^HELLO with session 1$/],
      [encodeRecord('hello', { body: json({}) }), /^HELLO\.protocol must be a number$/],
      [hello({ id: 'a b' }), /^HELLO\.id must be 1 to 64 of/],
      [hello({ instance: 'short' }), /^HELLO\.instance must be 8 to 64 of/],
      [hello({ pool: '' }), /^HELLO\.pool must be/],
      [hello({ weight: 0 }), /^HELLO\.weight must be above 0, at most 1000000$/],
      [hello({ maxSessions: 0 }), /^HELLO\.maxSessions must be null or a whole number from 1$/],
      [hello({ host: 7 }), /^HELLO\.host must be/],
      [hello({ pid: -1 }), /^HELLO\.pid must be/],
      [hello({ version: 'v'.repeat(65) }), /^HELLO\.version must be/],
    ]
    for (const [message, reason] of bad)
      expect(await sends(gateway, message)).toEqual({ code: 4400, reason: expect.stringMatching(reason) })
    expect(gateway.operator.nodes()).toEqual([])
  })

  test('another protocol: 4405', async () => {
    const gateway = await startTestGateway()
    for (const protocol of [0, 2, -1, 1.5, 1e308]) {
      const reason = `link protocol ${protocol}: this gateway speaks 1`
      expect(await sends(gateway, hello({ protocol }))).toEqual({ code: 4405, reason })
    }
  })

  test('what follows a refusal is not looked at', async () => {
    const gateway = await startTestGateway()
    expect((await sends(gateway, hello({ weight: -1 }), hello())).code).toBe(4400)
    expect((await sends(gateway, Buffer.concat([hello({ protocol: 7 }), hello()]))).code).toBe(4405)
    expect(gateway.operator.nodes()).toEqual([])
  })
})

describe('an id that is live', () => {
  test('from another process: 4409, and the first one stays', async () => {
    const gateway = await startTestGateway({ rebalance })
    const node = await ScriptedNode.link(gateway)
    const client = await NumberedClient.connect(gateway.wsUrl)
    client.send(3)
    await client.answers()
    const { ws, ended } = await dialLink(gateway.linkUrl)
    ws.send(encodeRecord('hello', { body: json(helloOf('a', { instance: 'another-process' })) }))
    expect(await ended).toEqual({ code: 4409, reason: expect.stringContaining('node id a is live') })
    client.send(3)
    await client.answers()
    expect(client.verify()).toEqual([])
    await node.settled()
    expect(gateway.operator.nodes()).toMatchObject([{ id: 'a', health: 'healthy', sessions: 1 }])
  })

  test('with the longest name: the reason still fits into a close frame', async () => {
    const gateway = await startTestGateway()
    const id = 'x'.repeat(64)
    await ScriptedNode.link(gateway, { id, hello: { instance: 'abcdefgh' } })
    const { ws, ended } = await dialLink(gateway.linkUrl)
    ws.send(encodeRecord('hello', { body: json(helloOf(id, { instance: 'another-process' })) }))
    expect((await ended).code).toBe(4409)
  })

  test('from the same process: the new link takes its place, and its sessions are recovered', async () => {
    const gateway = await startTestGateway({ rebalance })
    const first = await ScriptedNode.link(gateway)
    const client = await NumberedClient.connect(gateway.wsUrl)
    client.send(3)
    await client.answers()
    first.script = { message: () => {} }
    client.send(2)
    await first.next('message', ({ body }) => body.readUInt32LE(0) === 5)
    const second = await ScriptedNode.link(gateway)
    expect((await first.ended).code).toBe(1006)
    await client.answers()
    expect(client.verify().map(({ n }) => n)).toEqual([4, 5])
    expect(second.kinds().slice(0, 2)).toEqual(['WELCOME', 'OPEN'])
    expect(gateway.operator.nodes()).toMatchObject([{ id: 'a', health: 'healthy', sessions: 1 }])
    expect(gateway.operator.sessions().sessions).toMatchObject([{ term: 2, node: 'a' }])
  })

  test('and the same when others of its pool take the sessions first', async () => {
    const gateway = await startTestGateway({ rebalance })
    await ScriptedNode.link(gateway)
    const client = await NumberedClient.connect(gateway.wsUrl)
    await startTestNode(gateway, echo, { id: 'b' })
    await ScriptedNode.link(gateway)
    await expect.poll(() => gateway.operator.sessions().sessions[0]).toMatchObject({ node: 'b', term: 2 })
    client.ws.send('hello')
    await client.until(() => client.others.length === 1, 'the echo')
    expect(client.closeCode).toBeNull()
    expect(gateway.operator.nodes().map(({ id }) => id)).toEqual(['a', 'b'])
  })
})
