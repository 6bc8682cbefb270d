import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Inbox, type InboxItem } from '../../src/core/session/inbox.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('inbox')

type Step =
  | { do: 'push'; bytes: number; text: boolean }
  | { do: 'next' }
  | { do: 'commit'; upTo: number }
  | { do: 'rewind'; handled: boolean }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('push' as const), bytes: fc.nat(20), text: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('next' as const) }) },
  // Beyond what was sent too, and below what is committed: nodes make mistakes.
  { weight: 2, arbitrary: fc.record({ do: fc.constant('commit' as const), upTo: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rewind' as const), handled: fc.boolean() }) },
)

/** The same as plainly as possible: all messages for ever, and two numbers. */
class Model {
  readonly messages: { payload: Buffer; text: boolean; redelivered: boolean }[] = []
  acked = 0
  sent = 0

  get bytes(): number {
    return this.messages.slice(this.acked).reduce((sum, { payload }) => sum + payload.length, 0)
  }
}

function payloadOf(seq: number, bytes: number): Buffer {
  return Buffer.alloc(bytes + 4).fill(`${seq}.`)
}

function run(inbox: Inbox, model: Model, one: Step): void {
  if (one.do === 'push') {
    const payload = payloadOf(model.messages.length + 1, one.bytes)
    model.messages.push({ payload, text: one.text, redelivered: false })
    expect(inbox.push(payload, one.text)).toBe(model.messages.length)
  } else if (one.do === 'next') {
    const item = inbox.next()
    if (model.sent === model.messages.length) expect(item).toBeUndefined()
    else expect(item).toEqual(model.messages[model.sent++])
  } else if (one.do === 'commit') {
    const known = one.upTo <= model.sent
    expect(inbox.commit(one.upTo)).toBe(known)
    if (known) model.acked = Math.max(model.acked, one.upTo)
  } else {
    const inFlight = model.messages.slice(model.acked, model.sent)
    if (one.handled) for (const message of inFlight) message.redelivered = true
    expect(inbox.rewind(one.handled)).toBe(one.handled ? inFlight.length : 0)
    model.sent = model.acked
  }
}

test('it does what the model does, whatever the order of calls is', () => {
  const property = fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const inbox = new Inbox()
    const model = new Model()
    for (const one of steps) {
      run(inbox, model, one)
      expect({
        acked: inbox.acked,
        sent: inbox.sent,
        last: inbox.last,
        length: inbox.length,
        bytes: inbox.bytes,
      }).toEqual({
        acked: model.acked,
        sent: model.sent,
        last: model.messages.length,
        length: model.messages.length - model.acked,
        bytes: model.bytes,
      })
    }
  })
  fc.assert(property, { seed, numRuns: 2_000 })
})

test('nodes that come and go commit every message once and in order', () => {
  const life = fc.array(fc.record({ takes: fc.nat(6), commits: fc.nat(6), handled: fc.boolean() }))
  const property = fc.property(fc.integer({ min: 1, max: 30 }), life, (count, nodes) => {
    const inbox = new Inbox()
    for (let seq = 1; seq <= count; seq++) inbox.push(payloadOf(seq, 0), true)
    const committed: string[] = []
    const begun = new Set<string>()
    for (const { takes, commits, handled } of [...nodes, { takes: count, commits: count, handled: false }]) {
      const given: InboxItem[] = []
      for (let item = inbox.next(); item !== undefined; item = inbox.next()) {
        expect(item.redelivered).toBe(begun.has(String(item.payload)))
        given.push(item)
        if (given.length === takes) break
      }
      const done = given.slice(0, commits)
      expect(inbox.commit(inbox.acked + done.length)).toBe(true)
      committed.push(...done.map(({ payload }) => String(payload)))
      if (handled) for (const { payload } of given.slice(done.length)) begun.add(String(payload))
      inbox.rewind(handled)
    }
    expect(committed).toEqual(Array.from({ length: count }, (_, i) => String(payloadOf(i + 1, 0))))
    expect([inbox.length, inbox.bytes]).toEqual([0, 0])
  })
  fc.assert(property, { seed, numRuns: 1_000 })
})

test('a message that was begun stays marked, through a hand-over and through further losses', () => {
  const inbox = new Inbox()
  inbox.push(Buffer.from('a'), true)
  inbox.push(Buffer.from('b'), true)
  inbox.next()
  expect(inbox.rewind(true)).toBe(1)
  inbox.next()
  inbox.next()
  expect(inbox.rewind(false)).toBe(0)
  expect([inbox.next()?.redelivered, inbox.next()?.redelivered]).toEqual([true, false])
})

test('a commit of what was never sent changes nothing', () => {
  const inbox = new Inbox()
  inbox.push(Buffer.from('a'), true)
  inbox.push(Buffer.from('b'), true)
  inbox.next()
  expect(inbox.commit(2)).toBe(false)
  expect({ acked: inbox.acked, length: inbox.length, bytes: inbox.bytes }).toEqual({
    acked: 0,
    length: 2,
    bytes: 2,
  })
})

test('a session from another gateway: its node may commit what the client has not sent here yet', () => {
  const inbox = new Inbox()
  inbox.restore(5)
  expect(inbox.push(payloadOf(6, 0), true)).toBe(6)
  expect(inbox.push(payloadOf(7, 0), true)).toBe(7)
  inbox.next()
  expect(inbox.commit(9)).toBe(true)
  expect(inbox).toMatchObject({ acked: 9, sent: 9, last: 9, bytes: 0, length: 0 })
  expect(inbox.push(payloadOf(10, 0), true)).toBe(10)
  expect(inbox.next()?.payload.toString()).toContain('10.')
  // A further node knows nothing that it was not given.
  inbox.rewind(false)
  expect(inbox.commit(10)).toBe(false)
  expect(inbox).toMatchObject({ acked: 9, sent: 9, last: 10 })
})

test('messages that only the node has: they keep their numbers, and those that come again take their places', () => {
  const inbox = new Inbox()
  inbox.adopt(5, 8)
  expect(inbox).toMatchObject({ acked: 5, sent: 8, last: 8, length: 3, bytes: 0 })
  expect([5, 6, 8, 9].map((seq) => inbox.misses(seq))).toEqual([false, true, true, false])
  expect(inbox.push(Buffer.from('nine'), true)).toBe(9)
  expect(inbox.next()?.payload.toString()).toBe('nine')
  inbox.fill(7, Buffer.from('seven'), true)
  // It is there already.
  inbox.fill(7, Buffer.from('other'), true)
  expect(inbox.misses(7)).toBe(false)
  expect(inbox.bytes).toBe(9)
  // The node is lost: 6 and 8 with it.
  expect(inbox.rewind(true)).toBe(2)
  const given = [inbox.next(), inbox.next(), inbox.next()]
  expect(given.map((item) => item && [String(item.payload), item.redelivered])).toEqual([
    ['seven', true],
    ['nine', true],
    undefined,
  ])
  expect(inbox.sent).toBe(9)
  expect(inbox.commit(9)).toBe(true)
  expect(inbox).toMatchObject({ acked: 9, length: 0, bytes: 0 })
})

test('a node that has messages of another gateway commits them', () => {
  const inbox = new Inbox()
  inbox.adopt(0, 2)
  expect(inbox.commit(1)).toBe(true)
  expect(inbox.misses(2)).toBe(true)
  expect(inbox.commit(3)).toBe(false)
  expect(inbox.commit(2)).toBe(true)
  expect(inbox).toMatchObject({ acked: 2, sent: 2, last: 2, length: 0 })
})
