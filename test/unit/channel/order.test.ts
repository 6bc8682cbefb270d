import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ChannelOrder, type OrderStep } from '../../../src/core/channel/order.ts'
import { readFrom } from '../../../src/core/channel/replay.ts'
import { formatPosition, type Position } from '../../../src/protocol/position.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('channel order')

interface Message {
  readonly position: Position
  readonly payload: { readonly length: number }
  /** Its place among all that were published. */
  readonly index?: number
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

type Step =
  | { do: 'publish'; count: number }
  | { do: 'arrive'; count: number }
  | { do: 'cut' }
  | { do: 'restore' }
  | { do: 'serve' }
  | { do: 'answer' }
  | { do: 'fail' }
  | { do: 'ask' }
  | { do: 'reset' }
  | { do: 'expire' }
  | { do: 'forge'; offset: number; ownEpoch: boolean }

const harmless = [
  { weight: 6, arbitrary: fc.record({ do: fc.constant('publish' as const), count: fc.nat(6) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('arrive' as const), count: fc.nat(8) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('restore' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('serve' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('answer' as const) }) },
  // For the sake of a client that has come back.
  { weight: 1, arbitrary: fc.record({ do: fc.constant('ask' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const) }) },
]
const failing = { weight: 2, arbitrary: fc.record({ do: fc.constant('fail' as const) }) }
const harmful = [
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const) }) },
  // More than may be held.
  { weight: 1, arbitrary: fc.record({ do: fc.constant('publish' as const), count: fc.constant(1_200) }) },
]
const forged = {
  weight: 1,
  arbitrary: fc.record({
    do: fc.constant('forge' as const),
    offset: fc.integer({ min: 1_000_000, max: 2_000_000 }),
    ownEpoch: fc.boolean(),
  }),
}

/** Redis, the network between it and one gateway, and what the members of the channel there have seen. */
class World {
  readonly order = new ChannelOrder<Message>()
  /** All that was ever published, in order. */
  readonly published: Message[] = []
  /** By the call that brought them: indices of `published`, and gaps with the number of messages there were. */
  readonly seen: (number | { gap: number })[][] = []
  /** What was published before the members joined is not theirs. */
  startsAt: number | null = null
  beganEmpty = false
  asks = 0
  private readonly size: number
  private epoch = 0
  private historyStart = 0
  private wire: Message[] = []
  private connected = true
  private read: {
    after: Position | null
    found: { head: Position | null; messages: Message[] } | null
  } | null = null

  constructor(size: number) {
    this.size = size
    this.ask()
  }

  get head(): Position | null {
    return this.published.length === this.historyStart ? null : this.published.at(-1)!.position
  }

  get quiet(): boolean {
    return this.read === null && !this.order.due && this.wire.length === 0
  }

  run(step: Step): void {
    if (step.do === 'publish') for (let n = 0; n < step.count; n++) this.publish()
    else if (step.do === 'arrive') for (const one of this.wire.splice(0, step.count)) this.receive(one)
    else if (step.do === 'cut') this.cut()
    else if (step.do === 'restore') this.restore()
    else if (step.do === 'serve') this.serve()
    else if (step.do === 'answer') this.answer()
    else if (step.do === 'fail') this.fail()
    else if (step.do === 'ask') this.ask()
    else if (step.do === 'expire') this.begin()
    else if (step.do === 'reset') {
      this.cut()
      this.begin()
    } else {
      const epoch = step.ownEpoch ? (this.order.last?.epoch ?? 'x') : 'forged'
      this.receive({ position: { epoch, offset: step.offset }, payload: { length: 1 } })
    }
    if (this.order.due) this.ask()
  }

  private publish(): void {
    const offset = this.published.length - this.historyStart + 1
    const position = { epoch: `e${this.epoch}`, offset }
    const one = { position, payload: { length: 1 }, index: this.published.length }
    this.published.push(one)
    if (this.connected) this.wire.push(one)
  }

  private begin(): void {
    if (this.head === null) return
    this.epoch++
    this.historyStart = this.published.length
  }

  private cut(): void {
    this.connected = false
    this.wire = []
  }

  private restore(): void {
    if (this.connected) return
    this.connected = true
    this.order.interrupted()
  }

  private ask(): void {
    if (this.read !== null) return
    this.read = { after: readFrom(this.order.last, []), found: null }
    this.order.asked()
    this.asks++
  }

  private serve(): void {
    if (this.read === null || this.read.found !== null) return
    const { after } = this.read
    const stored = this.published.slice(Math.max(this.historyStart, this.published.length - this.size))
    const messages = stored.filter(
      ({ position }) => after !== null && (position.epoch !== after.epoch || position.offset > after.offset),
    )
    this.read.found = { head: this.head, messages }
  }

  private answer(): void {
    if (this.read === null) return
    this.serve()
    const { after, found } = this.read
    this.read = null
    this.take(this.order.answered({ after, ...found! }))
  }

  private fail(): void {
    if (this.read === null) return
    this.read = null
    this.take(this.order.failed())
  }

  private receive(one: Message): void {
    const arrival = this.order.receive(one)
    if (arrival === 'deliver') this.take([{ do: 'deliver', messages: [one] }])
    if (arrival === 'restart')
      this.take([
        { do: 'deliver', messages: [one] },
        { do: 'gap', last: one.position },
      ])
  }

  private take(steps: OrderStep<Message>[]): void {
    const batch: (number | { gap: number })[] = []
    for (const step of steps) {
      if (step.do === 'gap') batch.push({ gap: this.published.length })
      if (step.do === 'deliver') for (const one of step.messages) batch.push(one.index ?? -1)
    }
    const { last } = this.order
    if (this.startsAt === null && last !== null) {
      const first = batch.find((one) => typeof one === 'number')
      const at = this.published.findIndex(
        ({ position }) => position.epoch === last.epoch && position.offset === last.offset,
      )
      // Members are there from the first message that they get, or from the head on.
      this.startsAt = first ?? at + 1
      this.beganEmpty = last.offset === 0
      if (first === undefined && at === -1) this.startsAt = this.published.length
    }
    if (batch.length > 0) this.seen.push(batch)
  }

  /** All is well again, and everything settles. */
  heal(): void {
    for (let round = 0; round < 4; round++) {
      this.run({ do: 'restore' })
      this.run({ do: 'publish', count: round % 2 })
      for (let turn = 0; !this.quiet && turn < 20; turn++) {
        this.run({ do: 'arrive', count: Number.POSITIVE_INFINITY })
        if (this.read !== null) this.run({ do: 'answer' })
      }
      expect(this.quiet).toBe(true)
    }
  }

  messages(): number[] {
    return this.seen.flat().filter((one) => typeof one === 'number')
  }

  gaps(): number {
    return this.seen.flat().length - this.messages().length
  }

  check(): void {
    // What came before the answer that let the members in is theirs too.
    let next = Math.min(this.startsAt!, this.messages()[0] ?? this.startsAt!)
    let told = 0
    for (const batch of this.seen) {
      let missing = 0
      for (const one of batch) {
        if (typeof one !== 'number') {
          told = Math.max(told, one.gap)
          continue
        }
        expect(one, 'a message that was never published').toBeGreaterThanOrEqual(0)
        expect(one, 'order, and each once').toBeGreaterThanOrEqual(next)
        if (one > next && next >= this.startsAt!) missing = one
        next = one + 1
      }
      expect(told, 'a gap for each hole, when its other side is seen at the latest').toBeGreaterThanOrEqual(
        missing,
      )
    }
    // The last one published is healthy, so nothing is missing behind it.
    expect(next).toBe(this.published.length)
    expect(this.order.last).toEqual(this.head)
  }
}

function without(steps: readonly Step[], ...kinds: Step['do'][]): Step[] {
  return steps.filter((step) => !kinds.includes(step.do))
}

function play(steps: readonly Step[], size: number): World {
  const world = new World(size)
  for (const step of steps) world.run(step)
  world.heal()
  return world
}

describe('whatever happens', () => {
  const options = { seed, numRuns: 600 }
  const stepsOf = (...kinds: { weight: number; arbitrary: fc.Arbitrary<Step> }[]) =>
    fc.array(fc.oneof(...kinds), { maxLength: 60 })

  test('members get what there is in order and once, and no hole stays untold', () => {
    fc.assert(
      fc.property(
        stepsOf(...harmless, failing, ...harmful),
        fc.constantFrom(1, 3, 20, 10_000),
        (steps, size) => play(steps, size).check(),
      ),
      options,
    )
  })

  test('forged messages are not delivered, cost a read each at most, and shut nothing out', () => {
    fc.assert(
      fc.property(stepsOf(...harmless, ...harmful, forged), fc.constantFrom(1, 3, 10_000), (steps, size) => {
        const world = play(steps, size)
        world.check()
        expect(world.asks).toBeLessThanOrEqual(2 * steps.length + 20)
      }),
      options,
    )
  })

  test('while the history keeps enough and can be read, nothing is lost and no gap is told', () => {
    fc.assert(
      fc.property(stepsOf(...harmless), (steps) => {
        const world = play(without(steps, 'expire'), Number.MAX_SAFE_INTEGER)
        world.check()
        // Without any history there is nothing to prove by that nothing was lost.
        if (!world.beganEmpty) expect(world.gaps()).toBe(0)
        expect(world.messages().length).toBeGreaterThanOrEqual(world.published.length - world.startsAt!)
      }),
      options,
    )
  })

  test('a history that ends while nothing is interrupted is no gap', () => {
    fc.assert(
      fc.property(stepsOf(...harmless), (steps) => {
        const calm = without(steps, 'cut', 'ask')
        const world = play([{ do: 'publish', count: 1 }, { do: 'answer' }, ...calm], Number.MAX_SAFE_INTEGER)
        world.check()
        expect(world.gaps()).toBe(0)
        expect(world.asks).toBe(1)
      }),
      options,
    )
  })
})
