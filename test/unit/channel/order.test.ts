import { describe, expect, test } from 'vitest'
import { ChannelOrder, type OrderStep } from '../../../src/core/channel/order.ts'
import { readFrom } from '../../../src/core/channel/replay.ts'
import { formatPosition, type Position } from '../../../src/protocol/position.ts'

interface Message {
  readonly position: Position
  readonly payload: { readonly length: number }
}

function message(text: string, bytes = 10): Message {
  const [epoch, offset] = text.split('-')
  return { position: { epoch: epoch!, offset: Number(offset) }, payload: { length: bytes } }
}

/** `a-3 a-4 gap settle` */
function show(steps: OrderStep<Message>[]): string {
  return steps
    .flatMap((step) =>
      step.do === 'deliver' ? step.messages.map(({ position }) => formatPosition(position)) : [step.do],
    )
    .join(' ')
}

/** The answer to a read behind the present end. */
function answer(order: ChannelOrder<Message>, texts: string, after = readFrom(order.last, [])): string {
  const messages = texts === '' ? [] : texts.split(' ').map((text) => message(text))
  return show(order.answered({ after, head: messages.at(-1)?.position ?? null, messages }))
}

/** An order whose members have everything up to a-5. */
function at5(): ChannelOrder<Message> {
  const order = new ChannelOrder<Message>()
  order.asked()
  order.answered({ after: null, head: { epoch: 'a', offset: 5 }, messages: [] })
  expect(order.receive(message('a-5'))).toBe('known')
  expect([order.last, order.due]).toEqual([{ epoch: 'a', offset: 5 }, false])
  return order
}

describe('the beginning', () => {
  test('live messages wait for the head; those that came before the answer are delivered', () => {
    const order = new ChannelOrder<Message>()
    expect(order.due).toBe(true)
    order.asked()
    expect(order.receive(message('a-4'))).toBe('held')
    expect(order.receive(message('a-5'))).toBe('held')
    const steps = order.answered({ after: null, head: message('a-4').position, messages: [] })
    expect(show(steps)).toBe('settle a-4 a-5')
    expect(order.last).toEqual({ epoch: 'a', offset: 5 })
    expect(order.receive(message('a-6'))).toBe('deliver')
  })

  test('without a history the first message is the first', () => {
    const order = new ChannelOrder<Message>()
    order.asked()
    expect(show(order.answered({ after: null, head: null, messages: [] }))).toBe('settle')
    expect(order.receive(message('a-1'))).toBe('deliver')
    expect(order.receive(message('a-1'))).toBe('known')
  })

  test('when the history is away members go on with what comes, and hear of a gap', () => {
    const order = new ChannelOrder<Message>()
    order.asked()
    expect(order.failed()).toEqual([])
    expect(order.due).toBe(true)
    expect(order.receive(message('a-8'))).toBe('restart')
    expect([order.last, order.due]).toEqual([{ epoch: 'a', offset: 8 }, false])
    expect(order.receive(message('a-9'))).toBe('deliver')
  })

  test('when it is back before anything came, the gap is told as well', () => {
    const order = new ChannelOrder<Message>()
    order.asked()
    order.failed()
    order.asked()
    expect(show(order.answered({ after: null, head: message('a-8').position, messages: [] }))).toBe(
      'gap settle',
    )
  })
})

describe('a history that the subscription has not shown yet', () => {
  function told(head: string): ChannelOrder<Message> {
    const order = new ChannelOrder<Message>()
    order.asked()
    order.answered({ after: null, head: message(head).position, messages: [] })
    return order
  }

  test('what begins may be older, and is not delivered if it is', () => {
    const order = told('b-5')
    expect(order.receive(message('a-1'))).toBe('read')
    order.asked()
    expect(answer(order, 'b-6')).toBe('b-6 settle gap')
    expect(order.receive(message('a-1'))).toBe('read')
  })

  test('what begins is delivered without a gap once the history says that it is the present one', () => {
    const order = told('a-5')
    expect(order.receive(message('b-1'))).toBe('read')
    order.asked()
    expect(order.receive(message('b-2'))).toBe('held')
    expect(answer(order, 'b-1 b-2')).toBe('settle b-1 b-2')
    expect(order.receive(message('b-3'))).toBe('deliver')
    expect(order.receive(message('c-1'))).toBe('deliver')
  })

  test('after an interruption more may have come before what begins: a gap', () => {
    const order = told('a-5')
    order.interrupted()
    order.asked()
    expect(order.receive(message('b-1'))).toBe('held')
    expect(answer(order, 'b-1')).toBe('b-1 gap settle')
  })

  test('whoever has not seen the end of a history after an interruption takes nothing older for new', () => {
    const order = at5()
    order.interrupted()
    order.asked()
    expect(answer(order, 'c-1')).toBe('c-1 gap settle')
    expect(order.receive(message('b-1'))).toBe('read')
    order.asked()
    expect(order.receive(message('c-1'))).toBe('known')
    expect(answer(order, 'c-1')).toBe('settle gap')
  })

  test('a forged message shows nothing', () => {
    const order = told('b-5')
    expect(order.receive(message('b-99'))).toBe('read')
    order.asked()
    expect(answer(order, 'b-5')).toBe('settle gap')
    expect(order.receive(message('a-1'))).toBe('read')
  })
})

describe('from a-5 on', () => {
  test.each([
    ['a-6', 'deliver'],
    ['a-5', 'known'],
    ['a-1', 'known'],
    ['a-7', 'read'],
    // Uninterrupted, a new history follows the old one.
    ['b-1', 'deliver'],
    ['b-2', 'read'],
  ])('%s: %s', (text, arrival) => {
    expect(at5().receive(message(text))).toBe(arrival)
  })

  test.each([
    // what came live, what the history holds, what members get
    ['a-8', 'a-6 a-7 a-8', 'a-6 a-7 a-8 settle'],
    ['a-8', 'a-6 a-7 a-8 a-9', 'a-6 a-7 a-8 a-9 settle'],
    ['a-8', 'a-7 a-8', 'a-7 a-8 gap settle'],
    ['a-8', '', 'gap settle'],
    ['b-3', 'b-1 b-2 b-3', 'b-1 b-2 b-3 gap settle'],
    // Nobody but a forger knows of it.
    ['a-99', 'a-6', 'a-6 settle gap'],
    ['b-7', 'a-6', 'a-6 settle gap'],
  ])('%s jumps, the history says %j: %s', (live, stored, expected) => {
    const order = at5()
    expect(order.receive(message(live))).toBe('read')
    order.asked()
    expect(answer(order, stored)).toBe(expected)
    expect(order.due).toBe(false)
  })

  test.each([
    ['', 'a-6 a-7', 'a-6 a-7 settle'],
    ['a-7', 'a-6 a-7', 'a-6 a-7 settle'],
    ['a-8', 'a-6 a-7', 'a-6 a-7 settle a-8'],
    ['a-8 a-9', 'a-6 a-7 a-8', 'a-6 a-7 a-8 settle a-9'],
    ['', 'b-1 b-2', 'b-1 b-2 gap settle'],
    ['b-3', 'b-1 b-2', 'b-1 b-2 gap settle b-3'],
    ['', '', 'gap settle'],
    ['b-1', '', 'gap settle b-1'],
  ])('interrupted, then %j while the history is asked, which says %j: %s', (live, stored, expected) => {
    const order = at5()
    order.interrupted()
    order.asked()
    for (const text of live.split(' ').filter(Boolean)) expect(order.receive(message(text))).toBe('held')
    expect(answer(order, stored)).toBe(expected)
    expect(order.due).toBe(false)
  })

  test('interrupted with nothing lost: no gap', () => {
    const order = at5()
    order.interrupted()
    order.asked()
    expect(show(order.answered({ after: order.last, head: order.last, messages: [] }))).toBe('settle')
  })

  test('the last writes are lost: a gap, and what is published then is delivered', () => {
    const order = at5()
    order.interrupted()
    order.asked()
    expect(show(order.answered({ after: order.last, head: { epoch: 'a', offset: 3 }, messages: [] }))).toBe(
      'gap settle',
    )
    expect(order.receive(message('a-4'))).toBe('deliver')
  })

  test('interrupted again while it is asked: the answer is taken, and it is asked again', () => {
    const order = at5()
    order.interrupted()
    order.asked()
    order.interrupted()
    expect(answer(order, 'a-6')).toBe('a-6 settle')
    expect(order.due).toBe(true)
    expect(order.receive(message('a-9'))).toBe('held')
    order.asked()
    expect(answer(order, 'a-7 a-8 a-9')).toBe('a-7 a-8 a-9 settle')
  })

  test('another one is lost while it is asked: it is asked again', () => {
    const order = at5()
    order.receive(message('a-7'))
    order.asked()
    order.receive(message('a-10'))
    expect(answer(order, 'a-6 a-7')).toBe('a-6 a-7 settle')
    expect(order.due).toBe(true)
    order.asked()
    expect(answer(order, 'a-8 a-9 a-10')).toBe('a-8 a-9 a-10 settle')
    expect(order.due).toBe(false)
  })

  test('it was asked for the sake of others: what is on its way is not doubled', () => {
    const order = at5()
    order.asked()
    expect(answer(order, 'a-3 a-4 a-5 a-6', { epoch: 'a', offset: 2 })).toBe('a-6 settle')
    expect(order.receive(message('a-6'))).toBe('known')
    order.asked()
    order.receive(message('a-7'))
    expect(answer(order, 'a-6', { epoch: 'a', offset: 5 })).toBe('settle')
    expect(order.last?.offset).toBe(7)
    // Behind a position that somebody made up there is nothing, and that says nothing.
    order.asked()
    expect(
      show(
        order.answered({
          after: { epoch: 'a', offset: 99 },
          head: { epoch: 'a', offset: 9 },
          messages: [],
        }),
      ),
    ).toBe('settle')
    expect(order.receive(message('a-8'))).toBe('deliver')
  })

  test('while the history is away what is held waits, until there is no room', () => {
    const order = at5()
    order.receive(message('a-7'))
    order.asked()
    expect(order.failed()).toEqual([])
    expect(order.due).toBe(true)
    for (let offset = 8; offset < 1_100; offset++) expect(order.receive(message(`a-${offset}`))).toBe('held')
    order.asked()
    const steps = order.failed()
    expect(show(steps)).toBe(
      [...Array.from({ length: 1_000 }, (_, index) => `a-${index + 7}`), 'gap'].join(' '),
    )
    expect([order.last?.offset, order.due]).toEqual([1_006, false])
    // What there was no room for is missing, and is looked for.
    expect(order.receive(message('a-1100'))).toBe('read')
  })

  test('what there was no room for is read', () => {
    const order = at5()
    order.interrupted()
    order.asked()
    for (let offset = 6; offset < 16; offset++)
      expect(order.receive(message(`a-${offset}`, 50_000))).toBe('held')
    expect(answer(order, 'a-6')).toBe('a-6 settle a-7 a-8 a-9 a-10')
    expect(order.due).toBe(true)
    order.asked()
    expect(order.receive(message('a-16'))).toBe('held')
    expect(answer(order, 'a-11 a-12 a-13 a-14 a-15')).toBe('a-11 a-12 a-13 a-14 a-15 settle a-16')
    expect(order.due).toBe(false)
  })
})
