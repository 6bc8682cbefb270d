import { connect } from 'evenkeel/client'
import { beforeEach, describe, expect, test } from 'vitest'
import { parseClientHello } from '../../src/protocol/client-frames.ts'
import { FakeSocket, ManualClock } from '../support/fake-client-socket.ts'

let clock: ManualClock
const socket = () => FakeSocket.all.at(-1)!

beforeEach(() => {
  FakeSocket.all = []
  clock = new ManualClock()
})

function start(options: { maxPendingBytes?: number; maxPendingMessages?: number } = {}) {
  return connect('ws://gateway/ws', {
    WebSocket: FakeSocket,
    fallbackUrl: null,
    clock,
    random: () => 0.5,
    ...options,
  })
}

/** Lets promises settle. */
const turn = () => new Promise((resolve) => setImmediate(resolve))

async function failure(promise: Promise<void>): Promise<string> {
  return promise.then(
    () => 'none',
    (error) => `${error.code} ${error.outcome}: ${error.message}`,
  )
}

describe('acknowledging', () => {
  test('100 ms after the first output, for all that came until then', () => {
    start()
    socket().welcome()
    socket().say('m1', 'm2')
    clock.advance(99)
    socket().say('m3')
    expect(socket().sent).toEqual([])
    clock.advance(1)
    expect(socket().sent).toEqual(['a3'])
    clock.advance(1_000)
    expect(socket().sent).toEqual(['a3'])
  })

  test('at once from 32 KiB on, and not again by the timer', () => {
    start()
    socket().welcome()
    socket().say(`m${'é'.repeat(8 * 1024 - 1)}`, `m${'x'.repeat(16 * 1024)}`)
    expect(socket().sent).toEqual([])
    socket().say('mxx')
    expect(socket().sent).toEqual(['a3'])
    clock.advance(1_000)
    expect(socket().sent).toEqual(['a3'])
  })

  test('what is not numbered is not counted', () => {
    start()
    socket().welcome()
    socket().say('llate')
    clock.advance(1_000)
    expect(socket().sent).toEqual([])
  })

  test('only what is handled, one after the other', async () => {
    const client = start()
    const finish: (() => void)[] = []
    client.on('message', () => new Promise<void>((resolve) => finish.push(resolve)))
    socket().welcome()
    socket().say('m1', 'm2')
    clock.advance(1_000)
    expect([finish.length, socket().sent]).toEqual([1, []])
    finish[0]!()
    await turn()
    clock.advance(1_000)
    expect([finish.length, socket().sent]).toEqual([2, ['a1']])
  })

  test('what is still being handled when the connection is lost comes again, and is not heard again', async () => {
    const client = start()
    const heard: unknown[] = []
    const finish: (() => void)[] = []
    client.on('message', (data) => {
      heard.push(data)
      return new Promise<void>((resolve) => finish.push(resolve))
    })
    client.on('session', ({ recovered }) => heard.push(recovered))
    socket().welcome()
    socket().say('m1', 'm2')
    socket().lose()
    clock.advance(500)
    socket().welcome({ out: 0 })
    socket().say('m1', 'm2', 'm3')
    for (let i = 0; i < 3; i++) {
      finish[i]!()
      await turn()
    }
    expect(heard).toEqual([null, '1', '2', true, '3'])
    clock.advance(1_000)
    expect(socket().sent).toEqual(['a3'])
  })

  test('outputs of a session that was lost meanwhile are not counted for the next one', async () => {
    const client = start()
    let finish = () => {}
    client.on('message', () => new Promise<void>((resolve) => (finish = resolve)))
    socket().welcome()
    socket().say('m1')
    socket().lose()
    clock.advance(500)
    socket().welcome({ session: 's2', recovered: false, reason: 'unknown' })
    finish()
    await turn()
    clock.advance(1_000)
    expect(socket().sent).not.toContain('a1')
    socket().lose()
    clock.advance(2_000)
    socket().open()
    expect(parseClientHello(socket().sent[0] as string).resume).toMatchObject({ session: 's2', out: 0 })
  })
})

describe('coming back', () => {
  test('after the time that the gateway has asked for', () => {
    const client = start()
    const waits: number[] = []
    client.on('disconnect', ({ waitMs }) => waits.push(waitMs))
    socket().welcome({ retryMs: 1_700 })
    clock.advance(20_000)
    socket().lose()
    expect([client.state, waits]).toEqual(['waiting', [1_700]])
    clock.advance(1_699)
    expect(FakeSocket.all).toHaveLength(1)
    clock.advance(1)
    expect([client.state, FakeSocket.all.length]).toEqual(['connecting', 2])
    for (let i = 0; i < 3; i++) {
      socket().lose()
      clock.advance(waits.at(-1)!)
    }
    expect(waits).toEqual([1_700, 250, 500, 1_000])
  })

  test('after a random time when there was no gateway yet', () => {
    const client = start()
    const waits: number[] = []
    client.on('disconnect', ({ waitMs }) => waits.push(waitMs))
    socket().lose()
    clock.advance(500)
    socket().lose()
    expect(waits).toEqual([500, 250])
  })

  test('at once when it is asked to, but not in a loop', () => {
    const client = start()
    const waits: number[] = []
    client.on('disconnect', ({ waitMs }) => waits.push(waitMs))
    socket().welcome()
    clock.advance(10_000)
    for (let i = 0; i < 3; i++) {
      socket().say('r')
      expect(socket().closedWith).toBe(4000)
      clock.advance(waits.at(-1)!)
      socket().welcome()
    }
    expect(waits).toEqual([0, 50, 100])
  })

  test('a connection without a welcome is given up after 10 s, and what it says later is not heard', () => {
    const client = start()
    const lost: string[] = []
    client.on('disconnect', ({ code, reason }) => lost.push(`${code} ${reason}`))
    const [silent] = FakeSocket.all
    silent!.open()
    clock.advance(9_999)
    expect(silent!.closedWith).toBeNull()
    clock.advance(1)
    expect([silent!.closedWith, lost]).toEqual([4000, ['1006 no welcome within 10 s']])
    expect([silent!.onmessage, silent!.onclose]).toEqual([null, null])
  })

  test('a session that is not kept for so long is not asked for, and its messages are given up', async () => {
    const client = start()
    const sessions: unknown[] = []
    client.on('session', (event) => sessions.push(event))
    socket().welcome({ resumeMs: 1_000 })
    const sent = client.send('1')
    socket().lose()
    const unsent = client.send('2')
    clock.advance(500)
    // An attempt that fails does not begin the time anew.
    socket().lose()
    clock.advance(501)
    socket().open()
    expect(socket().sent).toEqual(['h{}'])
    const why = 'the session has expired'
    expect(await failure(sent)).toBe(`GONE unknown: ${why}`)
    expect(await failure(unsent)).toBe(`GONE unsent: ${why}`)
    expect(client.session).toBeNull()
    const next = client.send('3')
    socket().welcome({ session: 's2' })
    expect(sessions.at(-1)).toEqual({ id: 's2', recovered: false, reason: 'expired' })
    expect(socket().sent).toEqual(['m3'])
    socket().say('a1')
    await next
  })

  test('nothing is left running when it is over', () => {
    const client = start()
    socket().welcome()
    socket().say('m1')
    // One to acknowledge, one to notice silence.
    expect(clock.running).toBe(2)
    client.close()
    expect(clock.running).toBe(0)
    expect(socket().closedWith).toBe(1000)

    const waiting = start()
    socket().lose()
    waiting.close()
    expect(clock.running).toBe(0)

    start()
    socket().lose(4321)
    expect(clock.running).toBe(0)
  })

  test('a listener may close it', () => {
    for (const event of ['session', 'disconnect', 'message', 'channel'] as const) {
      const client = start()
      const heard: string[] = []
      client.on(event, () => client.close())
      for (const each of ['message', 'close'] as const) client.on(each, () => void heard.push(each))
      const own = socket()
      own.welcome()
      own.say('m1', 'croom\n\nhi', 'm2')
      own.lose()
      expect([client.state, heard.filter((name) => name === 'close').length, clock.running]).toEqual([
        'closed',
        1,
        0,
      ])
    }
  })
})

test('whoever has closed it hears no message any more, not even one that had come', async () => {
  const client = start()
  const heard: unknown[] = []
  let finish = () => {}
  client.on('message', (data) => {
    heard.push(data)
    return new Promise<void>((resolve) => (finish = resolve))
  })
  client.on('close', ({ code }) => heard.push(code))
  socket().welcome()
  socket().say('m1', 'm2')
  client.close()
  finish()
  await turn()
  expect(heard).toEqual(['1', 1000])
})

describe('what may wait', () => {
  test('so many messages', async () => {
    const client = start({ maxPendingMessages: 2 })
    client.send('1')
    const second = client.send('2')
    expect(await failure(client.send('3'))).toBe(
      'TOO_MANY_REQUESTS unsent: 2 messages of 2 bytes are not committed yet; await some of them',
    )
    socket().welcome()
    expect(await failure(client.send('4'))).toMatch(/^TOO_MANY/)
    socket().say('a1')
    client.send('5')
    expect(socket().sent).toEqual(['m1', 'm2', 'm5'])
    socket().say('a2')
    await second
  })

  test('so many bytes, as UTF-8', async () => {
    const client = start({ maxPendingBytes: 10 })
    expect(await failure(client.send('€€€€'))).toBe(
      'TOO_LARGE unsent: the message has 12 bytes, the most are 10',
    )
    client.send('€€€')
    expect(await failure(client.send(new Uint8Array(2)))).toMatch(/^TOO_MANY/)
    client.send(new Uint8Array(1))
    client.send('')
    socket().welcome()
    expect(socket().sent).toEqual(['m€€€', new Uint8Array([0x6d, 0]), 'm'])
  })

  test('nothing above what the gateway takes, even if it was sent before that was known', async () => {
    const client = start()
    const early = client.send('x'.repeat(101))
    client.send('x')
    socket().welcome({ messageBytes: 100 })
    expect(await failure(early)).toBe('TOO_LARGE unsent: the message has 101 bytes, the most are 100')
    expect(await failure(client.send('x'.repeat(101)))).toMatch(/^TOO_LARGE/)
    client.send('x'.repeat(100))
    expect(socket().sent).toEqual(['mx', `m${'x'.repeat(100)}`])
  })

  test('bytes are those of the call', () => {
    const client = start()
    const data = new Uint8Array([1, 2])
    client.send(data)
    data.fill(9)
    socket().welcome()
    expect(socket().sent).toEqual([new Uint8Array([0x6d, 1, 2])])
  })

  test('a promise that nobody looks at is no unhandled rejection', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown) => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    const client = start({ maxPendingMessages: 1 })
    client.send('1')
    client.send('2')
    client.close()
    await turn()
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  test('neither text nor bytes', async () => {
    const client = start()
    for (const data of [1, {}, new ArrayBuffer(1)])
      expect(await failure(client.send(data as string))).toBe(
        'BAD_REQUEST unsent: data must be a string or a Uint8Array',
      )
  })
})

describe('listeners', () => {
  test('can be taken away again', () => {
    const client = start()
    const heard: unknown[] = []
    const off = client.on('message', (data) => heard.push(data))
    socket().welcome()
    socket().say('m1')
    off()
    off()
    socket().say('m2')
    expect(heard).toEqual(['1'])
  })

  test('what they throw is theirs: the client goes on, and all others hear the event', async () => {
    const client = start()
    const heard: unknown[] = []
    const uncaught: unknown[] = []
    const own = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => uncaught.push(error))
    client.on('message', () => {
      throw new Error('thrown')
    })
    client.on('message', async () => {
      throw new Error('rejected')
    })
    client.on('message', (data) => heard.push(data))
    socket().welcome()
    socket().say('m1', 'm2')
    await turn()
    await turn()
    process.removeAllListeners('uncaughtException')
    for (const listener of own) process.on('uncaughtException', listener)
    clock.advance(100)
    expect(heard).toEqual(['1', '2'])
    expect(socket().sent).toEqual(['a2'])
    expect(uncaught.map(String)).toEqual([
      'Error: thrown',
      'Error: rejected',
      'Error: thrown',
      'Error: rejected',
    ])
  })

  test('of channels are not held back by those of messages', () => {
    const client = start()
    const heard: unknown[] = []
    client.on('message', () => new Promise(() => {}))
    client.on('channel', ({ data }) => heard.push(data))
    socket().welcome()
    socket().say('m1', 'croom\n\nhi')
    expect(heard).toEqual(['hi'])
  })
})

describe('connect', () => {
  test.each(['', 'gateway', 'ftp://gateway', 'http://[', '/ws?secret=1'])('takes no %j', (url) => {
    expect(() => connect(url)).toThrow('url must be an absolute ws: or wss: URL')
  })

  test.each([
    [{ maxPendingBytes: 0 }, 'maxPendingBytes must be a whole number from 1'],
    [{ maxPendingMessages: 1.5 }, 'maxPendingMessages must be a whole number from 1'],
  ])('%j: %s', (options, message) => {
    expect(() => start(options)).toThrow(message)
  })

  test('a token is not in what is printed of a client', async () => {
    const { inspect } = await import('node:util')
    const client = start()
    socket().welcome({ token: 'SECRET'.padEnd(43, 'x') })
    expect(inspect(client, { depth: 10, showHidden: true }) + JSON.stringify(client)).not.toContain('SECRET')
  })
})
