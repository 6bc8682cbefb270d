import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Hysteresis } from '../../../src/core/balance/hysteresis.ts'
import { LoadMeter } from '../../../src/core/balance/load-meter.ts'
import { planTraffic } from '../../../src/core/balance/traffic-planner.ts'
import { createRandom, type Random } from '../../support/random.ts'
import { node, sum } from './clusters.ts'

const lookMs = 5_000

interface Talker {
  rate: number
  readonly meter: LoadMeter
  /** What of its next message is due already. */
  due: number
  at: number
  moves: number[]
}

/** Nodes whose sessions talk at random moments, looked at as a gateway does. */
class Scene {
  now = 0
  moves = 0
  readonly talkers: Talker[]
  readonly hysteresis: Hysteresis<Talker>
  private readonly nodes: number
  private readonly random: Random
  private readonly isSteady: boolean

  constructor(
    { nodes, rates, seed, isSteady }: { nodes: number; rates: number[]; seed: number; isSteady: boolean },
    hysteresis = new Hysteresis<Talker>(0.15),
  ) {
    this.nodes = nodes
    this.random = createRandom(seed)
    this.isSteady = isSteady
    this.hysteresis = hysteresis
    this.talkers = rates.map((rate) => {
      const due = this.random.next()
      return { rate, meter: new LoadMeter(0), due, at: this.random.int(0, nodes - 1), moves: [] }
    })
  }

  look(): void {
    this.now += lookMs
    for (const talker of this.talkers) {
      const { rate, meter } = talker
      const expected = (rate * lookMs) / 1000
      const count = this.isSteady ? Math.floor(talker.due + expected) : poisson(expected, this.random)
      talker.due = (talker.due + expected) % 1
      for (let i = 0; i < count; i++) meter.count(1)
    }
    const measured = new Map(this.talkers.map((one) => [one, one.meter.look('messages', this.now)]))
    const loaded = Array.from({ length: this.nodes }, (_, at) => {
      const here = this.talkers.filter((one) => one.at === at)
      return {
        candidate: node(`n${at}`, here.length),
        load: sum(here.map((one) => measured.get(one)!)),
        movable: () =>
          here
            .filter((one) => !this.hysteresis.rests(one, this.now))
            .map((talker) => ({ talker, load: measured.get(talker)! })),
      }
    })
    if (!this.hysteresis.look(planTraffic(loaded, { maxMoves: 0 }).imbalanceBefore)) return
    const plan = planTraffic(loaded, { tolerance: this.hysteresis.target })
    if (!this.hysteresis.isWorthIt(plan)) return
    for (const { session, to } of plan.moves) {
      session.talker.at = Number(to.slice(1))
      session.talker.moves.push(this.now)
      this.hysteresis.moved(session.talker, this.now)
      this.moves++
    }
    this.hysteresis.settle()
  }

  looks(count: number): number {
    const before = this.moves
    for (let i = 0; i < count; i++) this.look()
    return this.moves - before
  }

  get imbalance(): number {
    const loads = Array.from({ length: this.nodes }, (_, at) =>
      sum(this.talkers.filter((one) => one.at === at).map(({ rate }) => rate)),
    )
    const fair = sum(loads) / this.nodes
    return Math.max(...loads.map((load) => Math.abs(load - fair) / fair))
  }
}

function poisson(mean: number, random: Random): number {
  let count = -1
  let passed = 0
  while (passed < mean) {
    passed -= Math.log(1 - random.next())
    count++
  }
  return Math.max(0, count)
}

const scene = fc.record({
  nodes: fc.integer({ min: 2, max: 6 }),
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
  rates: fc.array(fc.constantFrom(0.2, 0.5, 1, 2, 20), { minLength: 60, maxLength: 120 }),
})

test('steady traffic is balanced within two minutes, and then nothing moves', () => {
  fc.assert(
    fc.property(scene, (options) => {
      const cluster = new Scene({ ...options, isSteady: true })
      cluster.looks(24)
      expect(cluster.looks(120)).toBe(0)
    }),
    { numRuns: 40 },
  )
})

test('traffic at random moments moves few sessions, and none back and forth', () => {
  fc.assert(
    fc.property(scene, (options) => {
      const cluster = new Scene({ ...options, isSteady: false })
      cluster.looks(24)
      // Ten minutes.
      expect(cluster.looks(120)).toBeLessThanOrEqual(options.rates.length / 4)
      for (const { moves } of cluster.talkers)
        for (let i = 1; i < moves.length; i++)
          expect(moves[i]! - moves[i - 1]!).toBeGreaterThanOrEqual(60_000)
    }),
    { numRuns: 40 },
  )
})

test('one burst moves nothing', () => {
  const cluster = new Scene({ nodes: 2, rates: times(40, 1), seed: 1, isSteady: true })
  cluster.talkers.forEach((one, i) => {
    one.at = i % 2
  })
  cluster.looks(5)
  const [one] = cluster.talkers
  one!.rate = 100
  cluster.looks(1)
  one!.rate = 1
  expect([cluster.looks(12), cluster.moves]).toEqual([0, 0])
})

test('who becomes hot counts as hot at the second look', () => {
  const meter = new LoadMeter(0)
  const look = (now: number, messages: number) => {
    for (let i = 0; i < messages; i++) meter.count(10)
    return meter.look('messages', now)
  }
  for (let second = 5; second <= 60; second += 5) expect(look(second * 1000, 5)).toBeCloseTo(1)
  look(65_000, 200)
  expect(look(70_000, 200)).toBeCloseTo(40)
  expect(meter.rate('bytes')).toBeCloseTo(400)
  // One that is a little louder moves the average only.
  expect(look(75_000, 210)).toBeLessThan(41.1)
})

function times<T>(count: number, value: T): T[] {
  return new Array<T>(count).fill(value)
}
