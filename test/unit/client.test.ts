import { type ClientOptions, connect, type SessionEvent } from 'evenkeel/client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket as WsWebSocket } from 'ws'
import {
  ClientFrame,
  encodeChannelMessage,
  encodePayload,
  encodeVerdict,
} from '../../src/protocol/client-frames.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { EchoGateway, type EchoOptions, type Fault, type Step } from '../support/scripted-v1-echo.ts'
import { ScriptedV1Server } from '../support/scripted-v1-server.ts'
import { until } from '../support/until.ts'

const seed = testSeed('client')

/** A client that notes what it hears, and does not wait before it comes back. */
function listen(url: string, options: ClientOptions = {}) {
  const client = connect(url, { random: () => 0, ...options })
  onTestFinished(() => client.close())
  const looks = new Set<() => void>()
  const heard: string[] = []
  const messages: string[] = []
  const sessions: SessionEvent[] = []
  const note = (line: string) => {
    heard.push(line)
    for (const look of [...looks]) look()
  }
  client.on('message', (data) => {
    messages.push(Buffer.from(data as string).toString())
    note(`message ${typeof data === 'string' ? data : `[${data}]`}`)
  })
  client.on('channel', ({ channel, data, position }) => note(`channel ${channel} ${position} ${data}`))
  client.on('verdict', ({ channel, verdict, position }) => note(`verdict ${channel} ${verdict} ${position}`))
  client.on('session', (event) => {
    sessions.push(event)
    note(`session ${event.id} ${event.recovered} ${event.reason}`)
  })
  client.on('disconnect', ({ code, reason }) => note(`disconnect ${code} ${reason}`.trim()))
  client.on('close', ({ code, reason }) => note(`close ${code} ${reason}`.trim()))
  return {
    client,
    heard,
    messages,
    sessions,
    until: (condition: () => boolean, what: string) => until(condition, looks, { what }),
    hears: (line: string) => until(() => heard.includes(line), looks, { what: line }),
  }
}

/** What the promise rejects with. */
async function rejection(promise: Promise<void>) {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  )
  return { name: error?.name, code: error?.code, outcome: error?.outcome, message: error?.message }
}

describe.each([
  ['the WebSocket of Node.js', {}],
  ['the WebSocket of ws', { WebSocket: WsWebSocket }],
] as [string, ClientOptions][])('with %s', (_, options) => {
  test('messages go both ways, as text and as bytes', async () => {
    const server = await ScriptedV1Server.listen()
    const { client, hears, heard } = listen(server.url, options)
    expect([client.state, client.session]).toEqual(['connecting', null])
    const early = client.send('early')
    const peer = await server.accept()
    expect(await peer.welcome()).toEqual({})
    expect(await peer.next()).toBe('mearly')
    await hears('session session-1 null null')
    expect([client.state, client.session]).toEqual(['open', 'session-1'])

    const late = client.send(new Uint8Array([0, 255]))
    expect(await peer.next()).toEqual(new Uint8Array([0x6d, 0, 255]))
    peer.send('a2', 'mhéllo', encodePayload(ClientFrame.message, new Uint8Array([1, 2])), 'llate', 'm')
    await Promise.all([early, late])
    await hears('message ')
    expect(heard.slice(1)).toEqual(['message héllo', 'message [1,2]', 'message late', 'message '])
    expect(await peer.next()).toBe('a3')
  })

  test('what is published to its channels, and what is missing there', async () => {
    const server = await ScriptedV1Server.listen()
    const { heard, hears } = listen(server.url, options)
    const peer = await server.accept()
    await peer.welcome()
    peer.send(
      encodeVerdict({ channel: 'room', verdict: 'joined', position: '5-1' }),
      encodeChannelMessage({ channel: 'room', position: '5-2', data: 'a\nb' }),
      encodeChannelMessage({ channel: 'news', position: null, data: new Uint8Array([1]) }),
    )
    await hears('channel news null 1')
    expect(heard.slice(1)).toEqual([
      'verdict room joined 5-1',
      'channel room 5-2 a\nb',
      'channel news null 1',
    ])
    peer.drop()
    const again = await server.accept()
    expect((await again.recover()).channels).toEqual({ room: '5-2', news: null })
  })

  test('a lost connection is resumed where it was', async () => {
    const server = await ScriptedV1Server.listen()
    const { client, heard, hears } = listen(server.url, options)
    const first = await server.accept()
    const token = 'A'.repeat(43)
    await first.welcome({ token })
    const sends = ['1', '2', '3', '4'].map((data) => client.send(data))
    for (const n of [1, 2, 3, 4]) expect(await first.next()).toBe(`m${n}`)
    first.send('a1', 'mone')
    await hears('message one')
    first.drop()

    const second = await server.accept()
    expect(await second.recover({ ack: 2, last: 3 })).toEqual({
      session: 'session-1',
      token,
      out: 1,
      channels: {},
    })
    expect(await second.next()).toBe('a1')
    expect(await second.next()).toBe('m4')
    second.send('a4', 'mtwo')
    await Promise.all(sends)
    await hears('message two')
    expect(heard).toEqual([
      'session session-1 null null',
      'message one',
      'disconnect 1006',
      'session session-1 true null',
      'message two',
    ])
  })

  test('closing it ends the session', async () => {
    const server = await ScriptedV1Server.listen()
    const { client, hears } = listen(server.url, options)
    const peer = await server.accept()
    await peer.welcome()
    await hears('session session-1 null null')
    const send = client.send('x')
    client.close()
    client.close()
    expect([client.state, client.session]).toEqual(['closed', null])
    expect(await rejection(send)).toMatchObject({ name: 'SendError', code: 'GONE', outcome: 'unknown' })
    expect(await rejection(client.send('y'))).toMatchObject({ code: 'GONE', outcome: 'unsent' })
    await hears('close 1000')
    expect((await peer.ended()).code).toBe(1000)
  })

  test('closing it while it connects', async () => {
    const server = await ScriptedV1Server.listen()
    const { client, hears } = listen(server.url, options)
    client.close()
    await hears('close 1000')
  })
})

test('it is asked to move, and does so on a connection of its own, without a pause', async () => {
  const server = await ScriptedV1Server.listen()
  const { client, heard, hears } = listen(server.url)
  const first = await server.accept()
  await first.welcome({ retryMs: 60_000 })
  await hears('session session-1 null null')
  first.send('r')
  const second = await server.accept()
  await second.recover()
  await hears('session session-1 true null')
  expect(await first.ended()).toEqual({ code: 4000, reason: 'the gateway leaves' })
  expect(heard[1]).toBe('disconnect 4000 the gateway leaves')
  expect(client.state).toBe('open')
})

describe('a session that is lost', () => {
  test.each(['unknown', 'token', 'gap'] as const)(
    'because of "%s": a new one, and the outcome of each message',
    async (reason) => {
      const server = await ScriptedV1Server.listen()
      const { client, heard, hears } = listen(server.url)
      const first = await server.accept()
      await first.welcome({ retryMs: 20 })
      const committed = client.send('committed')
      const sent = client.send('sent')
      for (let i = 0; i < 2; i++) await first.next()
      first.send('a1', encodeVerdict({ channel: 'room', verdict: 'joined', position: '5-1' }))
      await committed
      await hears('verdict room joined 5-1')
      first.drop()
      await hears('disconnect 1006')
      expect(client.state).toBe('waiting')
      const waiting = client.send('waiting')
      const second = await server.accept()
      await second.welcome({ session: 'session-2', recovered: false, reason })
      const why = 'the session could not be resumed'
      expect(await rejection(sent)).toEqual({
        name: 'SendError',
        code: 'GONE',
        outcome: 'unknown',
        message: why,
      })
      expect(await rejection(waiting)).toMatchObject({ code: 'GONE', outcome: 'unsent' })
      await hears(`session session-2 false ${reason}`)

      const next = client.send('next')
      expect(await second.next()).toBe('mnext')
      second.send('a1', 'mone')
      await next
      await hears('message one')
      second.drop()
      const third = await server.accept()
      const { session, out, channels } = await third.recover({ ack: 1, last: 1 })
      expect([session, out, Object.keys(channels)]).toEqual(['session-2', 1, []])
      expect(heard).not.toContain('close')
    },
  )

  test('by the node, with a code: it is over, after what it said before', async () => {
    const server = await ScriptedV1Server.listen()
    const { client, heard, hears } = listen(server.url)
    const peer = await server.accept()
    await peer.welcome()
    peer.send('mlast words')
    peer.close(4321, 'enough')
    await hears('close 4321 enough')
    expect(heard.slice(1)).toEqual(['message last words', 'close 4321 enough'])
    expect(client.state).toBe('closed')
  })
})

describe('what a gateway must not say', () => {
  const welcome = JSON.stringify({
    session: 'session-1',
    token: 'SECRET'.padEnd(43, 'x'),
    recovered: null,
    reason: null,
    ack: 0,
    last: 0,
    out: 0,
    resumeMs: 1,
    retryMs: 1,
    messageBytes: 1,
  })

  test.each([
    ['nothing', ''],
    ['an output', 'mhi'],
    ['bytes', new Uint8Array([0x77, 1])],
    ['no JSON', 'w{'],
    ['no token', `w${welcome.replace(/"token":"\w+",/, '')}`],
    ['a cut welcome', `w${welcome.slice(0, 50)}`],
    ['an answer to what was not asked', `w${welcome.replace('"recovered":null', '"recovered":true')}`],
  ])('before the welcome: %s', async (_, frame) => {
    const server = await ScriptedV1Server.listen()
    const { client, heard, until } = listen(server.url)
    const peer = await server.accept()
    await peer.hello()
    peer.send(frame)
    await until(() => heard.length > 0, 'the end')
    expect(heard[0]).toMatch(/^close 4100 ./)
    expect(heard.join() + JSON.stringify(await peer.ended())).not.toContain('SECRET')
    expect((await peer.ended()).code).toBe(4100)
    expect(client.state).toBe('closed')
  })

  test.each([
    ['nothing', ''],
    ['no bytes', new Uint8Array()],
    ['a second welcome', `w${welcome}`],
    ['a hello', 'h{}'],
    ['an unknown type', 'zzz'],
    ['more than r', 'rr'],
    ['no number', 'aNaN'],
    ['a commit of what was never sent', 'a1'],
    ['a number in bytes', new Uint8Array([0x61, 0x31])],
    ['a verdict that is none', 'v{"channel":"room","verdict":"maybe","position":null}'],
    ['a message of no channel', 'c'],
    ['a message of a channel of Evenkeel', 'c$plans\n\nhi'],
  ])('after it: %s', async (_, frame) => {
    const server = await ScriptedV1Server.listen()
    const { client, heard, hears, until } = listen(server.url)
    const peer = await server.accept()
    await peer.welcome()
    await hears('session session-1 null null')
    peer.send(frame, 'mnever heard')
    await until(() => heard.length > 1, 'the end')
    expect(heard[1]).toMatch(/^close 4100 ./)
    expect((await peer.ended()).code).toBe(4100)
    expect([client.state, heard.length]).toEqual(['closed', 2])
  })

  test.each([
    ['another session', { session: 'session-9' }],
    ['another output', { out: 1 }],
    ['a message that was never sent', { last: 3 }],
    ['less than was committed', { ack: 0, last: 0 }],
    ['nothing about what was asked', { recovered: null }],
  ])('to one who resumes: %s', async (_, change) => {
    const server = await ScriptedV1Server.listen()
    const { client, heard, until } = listen(server.url)
    const first = await server.accept()
    await first.welcome()
    const sends = [client.send('1'), client.send('2')]
    await first.next()
    await first.next()
    first.send('a1')
    await sends[0]
    first.drop()
    await (await server.accept()).recover({ ack: 1, last: 1, ...change })
    await until(() => heard.some((line) => line.startsWith('close 4100 ')), 'the end')
    expect(await rejection(sends[1]!)).toMatchObject({ code: 'GONE', outcome: 'unknown' })
  })

  test('that it speaks another protocol', async () => {
    const server = await ScriptedV1Server.listen(false)
    // Others have the handshake fail, which is 1006 and may be the fault of something in between.
    const { hears } = listen(server.url, { WebSocket: Permissive })
    await hears('close 4100 the server does not speak evenkeel.v1')
  })
})

/** As browsers are: no subprotocol in the answer is no error. */
class Permissive extends WsWebSocket {
  constructor(url: string) {
    super(url)
  }
}

describe('exactly once', () => {
  const count = 6

  /** Sends and hears everything, whatever the gateway does. Returns how often a fault was asked for. */
  async function converse(fault: (step: Step, n: number) => Fault, echo: EchoOptions = {}, messages = count) {
    const server = await ScriptedV1Server.listen()
    let asked = 0
    const gateway = new EchoGateway(server, { ...echo, fault: (step) => fault(step, asked++) })
    const { client, messages: echoes, sessions, until } = listen(server.url)
    const numbers = Array.from({ length: messages }, (_, n) => `${n + 1}`)
    for (const number of numbers) {
      const data = Number(number) % 3 === 0 ? Buffer.from(number) : number
      // Not all at once, so that some are sent while the connection is away.
      const isSent = client.send(data)
      if (Number(number) % 2 === 0) await isSent
    }
    await until(() => echoes.length >= messages, 'all echoes')
    expect(gateway.handled).toEqual(numbers)
    expect(echoes).toEqual(numbers.map((number) => `echo ${number}`))
    expect(gateway.violations).toEqual([])
    expect(sessions.filter(({ recovered }) => recovered === false)).toEqual([])
    return asked
  }

  test.each([
    ['cut', false],
    ['cut', true],
    ['move', false],
    ['move', true],
  ] as const)('one fault (%s; another gateway: %s) after each step there is', async (fault, losesInbox) => {
    const steps = await converse(() => 'none', { losesInbox })
    for (let at = 0; at < steps; at++) await converse((_, n) => (n === at ? fault : 'none'), { losesInbox })
  })

  test.each([false, true])('many faults at random, another gateway: %s', async (losesInbox) => {
    const random = createRandom(seed)
    const faults = (step: Step): Fault => {
      if (!random.chance(step === 'heard hello' || step === 'sent welcome' ? 0.3 : 0.05)) return 'none'
      return random.chance(0.5) ? 'cut' : 'move'
    }
    await converse(faults, { losesInbox }, 200)
  })
})
