import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ChannelOrder, type OrderStep } from '../../../src/core/channel/order.ts'
import { readFrom } from '../../../src/core/channel/replay.ts'
import type { Position } from '../../../src/protocol/position.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('channel order')

interface Message {
  readonly position: Position
  readonly payload: { readonly length: number }
  /** Its place among all that were published. */
  readonly index?: number
}

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
