import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Outputs } from '../../client/outputs.ts'
import { Positions } from '../../client/positions.ts'
import { SessionState } from '../../client/session-state.ts'
import type { ClientWelcome } from '../../src/protocol/client-frames.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('client session state')

interface Item {
  readonly name: string
  readonly bytes: number
}

const item = (name: string, bytes = 10): Item => ({ name, bytes })
const names = (items: readonly Item[]) => items.map(({ name }) => name).join('')

const first: ClientWelcome = {
  session: 's1',
  token: 't1',
  recovered: null,
  reason: null,
  ack: 0,
  last: 0,
  out: 0,
  resumeMs: 1_000,
  retryMs: 10,
  messageBytes: 100,
}
const recovered: ClientWelcome = { ...first, recovered: true }

/** With items a, b, c given to a connection of its first session. */
function withSent(): SessionState<Item> {
  const state = new SessionState<Item>()
  state.hello()
  state.welcome(first)
  for (const name of 'abc') state.add(item(name))
  state.takeUnsent()
  return state
}

describe('messages', () => {
  test('what comes before the first welcome goes with it', () => {
    const state = new SessionState<Item>()
    state.add(item('a'))
    expect(state.hello()).toEqual({})
    expect(state.welcome(first)).toEqual({
      committed: [],
      lost: [],
      event: { id: 's1', recovered: null, reason: null },
    })
    state.add(item('b'))
    expect(names(state.takeUnsent())).toBe('ab')
    expect(names(state.takeUnsent())).toBe('')
  })

  test.each([
    [0, '', 3],
    [1, 'a', 2],
    [3, 'abc', 0],
  ])('committed up to %d: %j', (count, committed, pending) => {
    const state = withSent()
    expect(names(state.commit(count))).toBe(committed)
    expect([state.pending, state.pendingBytes]).toEqual([pending, pending * 10])
    expect(names(state.commit(count))).toBe('')
  })

  test('a number that was committed before says nothing new', () => {
    const state = withSent()
    state.commit(2)
    expect(names(state.commit(1))).toBe('')
    expect(names(state.commit(3))).toBe('c')
  })

  test('nothing can be committed that was not sent', () => {
    const state = withSent()
    state.add(item('d'))
    expect(() => state.commit(4)).toThrow('a: 4 is committed, 3 were sent')
  })

  /** [ack, last, committed by the welcome, sent again] */
  test.each([
    [0, 0, '', 'abcd'],
    [0, 3, '', 'd'],
    [1, 2, 'a', 'cd'],
    [3, 3, 'abc', 'd'],
  ])('resumed with ack %d and last %d: %j are committed, %j go again', (ack, last, committed, again) => {
    const state = withSent()
    state.add(item('d'))
    expect(state.hello().resume).toEqual({ session: 's1', token: 't1', out: 0, channels: {} })
    const effects = state.welcome({ ...recovered, ack, last, token: 't2' })
    expect(names(effects.committed)).toBe(committed)
    expect(effects.lost).toEqual([])
    expect(names(state.takeUnsent())).toBe(again)
    expect(state.hello().resume?.token).toBe('t2')
  })

  test('a node may commit what it was given through another gateway, before that comes again', () => {
    const state = withSent()
    state.hello()
    state.welcome(recovered)
    expect(names(state.commit(2))).toBe('ab')
    expect(names(state.takeUnsent())).toBe('c')
  })

  test.each<[Partial<ClientWelcome>, string]>([
    [{ session: 's2' }, 'welcome.session is not the one of the hello'],
    [{ out: 1 }, 'welcome.out is not the one of the hello'],
    [{ last: 4 }, 'welcome.last is 4, and it must be from 1 to 3'],
    [{ last: 0 }, 'welcome.last is 0, and it must be from 1 to 3'],
    [{ recovered: null }, 'welcome.recovered does not fit the hello'],
  ])('a welcome with %j does not fit, and changes nothing', (change, message) => {
    const state = withSent()
    state.commit(1)
    state.hello()
    expect(() => state.welcome({ ...recovered, last: 1, ...change })).toThrow(message)
    expect([state.session, state.pending]).toEqual(['s1', 2])
  })

  test.each([true, false])('who has not asked cannot be answered with recovered: %s', (answer) => {
    const state = new SessionState<Item>()
    state.hello()
    expect(() => state.welcome({ ...first, recovered: answer })).toThrow('does not fit the hello')
  })

  test('not recovered: what was given to a connection may have been handled, the rest was not', () => {
    const state = withSent()
    state.commit(1)
    state.add(item('d'))
    state.hello()
    const { lost, event } = state.welcome({ ...first, session: 's2', recovered: false, reason: 'gap' })
    expect(lost.map(({ item, outcome }) => `${item.name} ${outcome}`)).toEqual([
      'b unknown',
      'c unknown',
      'd unsent',
    ])
    expect(event).toEqual({ id: 's2', recovered: false, reason: 'gap' })
    expect([state.pending, state.pendingBytes]).toEqual([0, 0])
    state.add(item('e'))
    expect(names(state.takeUnsent())).toBe('e')
    expect(names(state.commit(1))).toBe('e')
  })

  test('expired: the gateway is not asked, and what comes then is for the next session', () => {
    const state = withSent()
    expect(state.expire()).toHaveLength(3)
    expect(state.session).toBeNull()
    state.add(item('d'))
    expect(state.expire()).toEqual([])
    expect(state.hello()).toEqual({})
    const { lost, event } = state.welcome({ ...first, session: 's2' })
    expect(lost).toEqual([])
    expect(event).toEqual({ id: 's2', recovered: false, reason: 'expired' })
    expect(names(state.takeUnsent())).toBe('d')
    state.hello()
    expect(state.welcome({ ...recovered, session: 's2' }).event.reason).toBeNull()
  })

  test('what is too large does not go, unless its number was given away already', () => {
    const state = withSent()
    for (const [name, bytes] of [
      ['d', 101],
      ['e', 100],
      ['f', 200],
    ] as const)
      state.add(item(name, bytes))
    state.hello()
    state.welcome({ ...recovered, ack: 1, last: 1 })
    expect(names(state.takeOversized(100))).toBe('df')
    expect(state.pendingBytes).toBe(120)
    expect(names(state.takeOversized(5))).toBe('e')
    expect(names(state.takeUnsent())).toBe('bc')
  })
})

describe('outputs', () => {
  test('what is being handled comes again after a resume, and is passed over', () => {
    const outputs = new Outputs(7)
    expect([outputs.receive(), outputs.receive(), outputs.receive()]).toEqual([true, true, true])
    outputs.handle(5)
    expect(outputs.handled).toBe(8)
    outputs.restart(8)
    expect([outputs.receive(), outputs.receive(), outputs.receive()]).toEqual([false, false, true])
  })

  test('acknowledging', () => {
    const outputs = new Outputs(7)
    expect(outputs.hasUnacknowledged).toBe(false)
    outputs.receive()
    expect(outputs.hasUnacknowledged).toBe(false)
    outputs.handle(0)
    expect(outputs.hasUnacknowledged).toBe(true)
    outputs.handle(5)
    expect([outputs.unacknowledgedBytes, outputs.acknowledge()]).toEqual([5, 9])
    expect([outputs.unacknowledgedBytes, outputs.hasUnacknowledged]).toEqual([0, false])
  })
})

describe('positions', () => {
  test('the last one that was seen', () => {
    const positions = new Positions()
    positions.judge({ channel: 'a', verdict: 'joined', position: '1-5' })
    positions.judge({ channel: 'b', verdict: 'joined', position: null })
    positions.see('a', '1-6')
    positions.judge({ channel: 'a', verdict: 'continuous', position: '1-9' })
    expect(positions.toObject()).toEqual({ a: '1-6', b: null })
    positions.judge({ channel: 'a', verdict: 'gap', position: '2-3' })
    expect(positions.toObject()).toEqual({ a: '2-3', b: null })
  })

  test('names of an object’s properties are names', () => {
    const positions = new Positions()
    positions.see('__proto__', '1-1')
    expect(JSON.stringify(positions.toObject())).toBe('{"__proto__":"1-1"}')
  })

  test('of more channels than a hello may name, those go that were quiet for longest', () => {
    const positions = new Positions()
    for (let n = 0; n < 128; n++) positions.see(`${n}`, null)
    positions.see('0', '1-1')
    positions.see('new', null)
    const channels = Object.keys(positions.toObject())
    expect(channels).toHaveLength(128)
    expect([channels.includes('0'), channels.includes('1')]).toEqual([true, false])
  })
})

/** A gateway and its node without sockets: frames wait in both directions until a step delivers them. */
class World {
  readonly state = new SessionState<Item>()
  /** What the client has sent and what it was told of it. */
  made = 0
  committed = ''
  heard: number[] = []
  private connected = false
  private toGateway: Item[] = []
  private toClient: ({ output: number } | { ack: number })[] = []
  private number = 0
  private inbox: { n: number; name: string }[] = []
  private ack = 0
  handled = ''
  private outs = 0
  private acknowledged = 0
  private token = 0

  send(): void {
    this.state.add(item(String.fromCodePoint(0x100 + this.made++)))
    if (this.connected) this.toGateway.push(...this.state.takeUnsent())
  }

  deliverToGateway(): void {
    const [next] = this.toGateway.splice(0, 1)
    if (next !== undefined) this.inbox.push({ n: ++this.number, name: next.name })
  }

  work(): void {
    const [next] = this.inbox.splice(0, 1)
    if (next === undefined) return
    if (next.n <= this.ack) return
    expect(next.n).toBe(this.ack + 1)
    this.handled += next.name
    this.ack++
    this.outs++
    if (this.connected) this.toClient.push({ output: this.outs }, { ack: this.ack })
  }

  deliverToClient(): void {
    const [next] = this.toClient.splice(0, 1)
    if (next === undefined) return
    if ('ack' in next) this.committed += names(this.state.commit(next.ack))
    else if (this.state.outputs.receive()) this.heard.push(next.output)
  }

  handle(): void {
    if (this.state.outputs.handled < this.heard.length) this.state.outputs.handle(1)
  }

  acknowledge(): void {
    if (this.connected) this.acknowledged = this.state.outputs.acknowledge()
  }

  drop(): void {
    this.connected = false
    this.toGateway = []
    this.toClient = []
  }

  /** `keepsInbox`: it comes to the gateway where it was. `hears`: the welcome arrives. */
  resume(keepsInbox: boolean, hears: boolean): void {
    this.drop()
    const { resume } = this.state.hello()
    if (!keepsInbox) this.inbox = []
    this.inbox = this.inbox.filter(({ n }) => n > this.ack)
    const last = this.ack + this.inbox.length
    if (!hears) return
    const out = resume?.out ?? 0
    expect(out).toBeGreaterThanOrEqual(this.acknowledged)
    const answer = { recovered: resume === undefined ? null : true, ack: this.ack, last, out }
    const effects = this.state.welcome({ ...first, ...answer, token: `t${++this.token}` })
    this.committed += names(effects.committed)
    expect(effects.lost).toEqual([])
    this.connected = true
    this.number = last
    this.toGateway.push(...this.state.takeUnsent())
    for (let n = out + 1; n <= this.outs; n++) this.toClient.push({ output: n })
  }

  settle(): void {
    this.resume(true, true)
    for (let i = 0; i <= this.made; i++) {
      this.deliverToGateway()
      this.work()
    }
    while (this.toClient.length > 0) this.deliverToClient()
  }
}

test('however the connection is lost, each message is handled once and in order, and each output is heard so', () => {
  type Step = (world: World) => void
  const steps = fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constant<Step>((world) => world.send()) },
      { weight: 4, arbitrary: fc.constant<Step>((world) => world.deliverToGateway()) },
      { weight: 4, arbitrary: fc.constant<Step>((world) => world.work()) },
      { weight: 4, arbitrary: fc.constant<Step>((world) => world.deliverToClient()) },
      { weight: 2, arbitrary: fc.constant<Step>((world) => world.handle()) },
      { weight: 1, arbitrary: fc.constant<Step>((world) => world.acknowledge()) },
      { weight: 1, arbitrary: fc.constant<Step>((world) => world.drop()) },
      {
        weight: 2,
        arbitrary: fc.tuple(fc.boolean(), fc.boolean()).map<Step>(
          ([keepsInbox, hears]) =>
            (world) =>
              world.resume(keepsInbox, hears),
        ),
      },
    ),
    { maxLength: 150 },
  )
  const property = fc.property(steps, (walk) => {
    const world = new World()
    for (const step of walk) step(world)
    world.settle()
    const all = Array.from({ length: world.made }, (_, n) => String.fromCodePoint(0x100 + n)).join('')
    expect(world.handled).toBe(all)
    expect(world.committed).toBe(all)
    expect(world.heard).toEqual(Array.from({ length: world.made }, (_, n) => n + 1))
    expect([world.state.pending, world.state.pendingBytes]).toEqual([0, 0])
  })
  fc.assert(property, { seed, numRuns: 2_000 })
})
