import { connect, type DisconnectEvent, type PageLike } from 'evenkeel/client'
import { beforeEach, describe, expect, test } from 'vitest'
import { FakeSocket, ManualClock } from '../support/fake-client-socket.ts'

/** A window as far as the client looks at it. */
class FakePage implements PageLike {
  document = { visibilityState: 'visible' }
  readonly listeners = new Map<string, Set<(event: never) => void>>()

  addEventListener(type: string, listener: (event: never) => void): void {
    this.listeners.set(type, (this.listeners.get(type) ?? new Set()).add(listener))
  }

  removeEventListener(type: string, listener: (event: never) => void): void {
    this.listeners.get(type)?.delete(listener)
  }

  fire(type: string, fields: object = {}): void {
    for (const listener of this.listeners.get(type) ?? []) listener({ type, ...fields } as never)
  }

  show(visibilityState: 'visible' | 'hidden'): void {
    this.document.visibilityState = visibilityState
    this.fire('visibilitychange')
  }
}

let clock: ManualClock
let page: FakePage
const socket = () => FakeSocket.all.at(-1)!

beforeEach(() => {
  FakeSocket.all = []
  clock = new ManualClock()
  page = new FakePage()
})

function start() {
  const client = connect('ws://gateway/ws', {
    WebSocket: FakeSocket,
    fallbackUrl: null,
    clock,
    page,
    random: () => 0.5,
  })
  const lost: DisconnectEvent[] = []
  client.on('disconnect', (event) => lost.push(event))
  return { client, lost }
}

describe('a silent connection', () => {
  test('is asked after 20 s, and given up 10 s later', () => {
    const { client, lost } = start()
    socket().welcome()
    clock.advance(19_999)
    expect(socket().sent).toEqual([])
    clock.advance(1)
    expect(socket().sent).toEqual(['p'])
    clock.advance(9_999)
    expect(client.state).toBe('open')
    clock.advance(1)
    expect(lost).toMatchObject([{ code: 1006, reason: 'no sign of the gateway', kind: 'lost' }])
    expect(FakeSocket.all[0]!.closedWith).toBe(4000)
  })

  test('lives on with any answer, and is asked again 20 s after that', () => {
    const { client } = start()
    socket().welcome()
    clock.advance(25_000)
    socket().say('lsomething')
    clock.advance(19_999)
    expect(socket().sent).toEqual(['p'])
    clock.advance(1)
    expect(socket().sent).toEqual(['p', 'p'])
    socket().say('p')
    clock.advance(19_999)
    expect(client.state).toBe('open')
  })

  test('is not asked while something comes', () => {
    start()
    socket().welcome()
    for (let i = 0; i < 10; i++) {
      clock.advance(15_000)
      socket().say('lsomething')
    }
    expect(socket().sent).toEqual([])
  })
})

describe('when somebody looks at the page again', () => {
  test('a client that waits dials at once, and as if nothing had failed', () => {
    const { client, lost } = start()
    for (let i = 0; i < 6; i++) {
      socket().lose()
      clock.advance(lost.at(-1)!.waitMs)
    }
    socket().lose()
    expect(lost.at(-1)!.waitMs).toBe(8_000)
    const before = FakeSocket.all.length
    page.show('hidden')
    expect(FakeSocket.all.length).toBe(before)
    page.show('visible')
    expect([client.state, FakeSocket.all.length]).toEqual(['connecting', before + 1])
    clock.advance(8_000)
    expect(FakeSocket.all.length).toBe(before + 1)
    socket().lose()
    expect(lost.at(-1)!.waitMs).toBe(500)
  })

  test('a connection has 3 s to show that it lives', () => {
    const { client, lost } = start()
    socket().welcome()
    page.show('visible')
    expect(socket().sent).toEqual(['p'])
    clock.advance(2_999)
    socket().say('p')
    clock.advance(3_000)
    expect(client.state).toBe('open')
    page.show('visible')
    clock.advance(3_000)
    expect(lost).toMatchObject([{ reason: 'no sign of the gateway' }])
  })

  test('the 3 s count also where it was asked already', () => {
    const { lost } = start()
    socket().welcome()
    clock.advance(20_000)
    page.show('visible')
    clock.advance(3_000)
    expect(lost).toHaveLength(1)
  })
})

test('the network is back: as if somebody looked, even where nobody does', () => {
  const { client } = start()
  socket().lose()
  page.show('hidden')
  page.fire('online')
  expect(client.state).toBe('connecting')
})

describe('a page that is put away', () => {
  test('gives its connection up, waits without a timer, and resumes the session when it is shown', () => {
    const { client, lost } = start()
    socket().welcome()
    socket().say('m1')
    page.fire('pagehide', { persisted: true })
    expect([client.state, socket().closedWith, client.session]).toEqual(['waiting', 4000, 's1'])
    expect(lost).toMatchObject([{ code: 4000, kind: 'asleep', waitMs: Number.POSITIVE_INFINITY }])
    clock.advance(60_000)
    expect(FakeSocket.all).toHaveLength(1)
    page.fire('pageshow', { persisted: true })
    expect(FakeSocket.all).toHaveLength(2)
    socket().open()
    expect(socket().sent[0]).toContain('"session":"s1"')
  })

  test('while it waits for the next attempt: that is off', () => {
    const { client } = start()
    socket().lose()
    page.fire('pagehide', { persisted: true })
    clock.advance(60_000)
    expect([client.state, FakeSocket.all.length]).toEqual(['waiting', 1])
    page.fire('pageshow', { persisted: true })
    expect(client.state).toBe('connecting')
  })

  test('for longer than the session is kept: another one', async () => {
    const { client } = start()
    const sessions: unknown[] = []
    client.on('session', (event) => sessions.push(event))
    socket().welcome({ resumeMs: 1_000 })
    page.fire('pagehide', { persisted: true })
    clock.advance(1_001)
    page.fire('pageshow', { persisted: true })
    socket().open()
    expect(socket().sent).toEqual(['h{}'])
    socket().welcome({ session: 's2' })
    expect(sessions.at(-1)).toEqual({ id: 's2', recovered: false, reason: 'expired' })
  })

  test('that will not come back is none of its business', () => {
    const { client } = start()
    socket().welcome()
    page.fire('pagehide', { persisted: false })
    expect([client.state, socket().closedWith]).toEqual(['open', null])
  })
})

test('a client that is closed listens to nothing', () => {
  const { client } = start()
  client.close()
  expect([...page.listeners.values()].every((listeners) => listeners.size === 0)).toBe(true)

  start()
  socket().lose(3000)
  expect([...page.listeners.values()].every((listeners) => listeners.size === 0)).toBe(true)
})

describe('why it ended', () => {
  test.each([
    [1000, 'ended'],
    [1002, 'protocol'],
    [1009, 'too-large'],
    [3000, 'ended'],
    [4100, 'protocol'],
    [4101, 'replaced'],
    [4200, 'ended'],
  ])('for good with %d: %s', (code, kind) => {
    const { client } = start()
    const ends: unknown[] = []
    client.on('close', (event) => ends.push(event))
    socket().welcome()
    socket().lose(code)
    expect(ends).toEqual([{ code, reason: '', kind }])
  })

  test.each([
    [1001, 'lost'],
    [1006, 'lost'],
    [1011, 'failed'],
    [1012, 'stopping'],
    [1013, 'no-node'],
    [4008, 'slow'],
    [4050, 'ended'],
  ])('for now with %d: %s', (code, kind) => {
    const { lost } = start()
    socket().welcome()
    socket().lose(code)
    expect(lost).toMatchObject([{ code, kind }])
  })

  test('because the gateway asked for it, or the application', () => {
    const { client, lost } = start()
    socket().welcome()
    socket().say('r')
    expect(lost).toMatchObject([{ kind: 'moved' }])
    const ends: unknown[] = []
    client.on('close', (event) => ends.push(event))
    client.close()
    expect(ends).toEqual([{ code: 1000, reason: '', kind: 'closed' }])
  })
})
