import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Dispatcher, type DispatchTarget } from '../../../src/core/balance/dispatcher.ts'
import { Heap } from '../../../src/core/balance/heap.ts'
import { node } from './clusters.ts'

type Target = DispatchTarget & { inFlight: number; got: number }

function target(id: string, weight: number): Target {
  return { ...node(id, 1), weight, inFlight: 0, got: 0 }
}

const all = () => true
const weights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 })

test('targets that keep up get their parts by weight, to within a round', () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 500 }), (list, count) => {
      const dispatcher = new Dispatcher<Target>()
      const targets = list.map((weight, i) => target(`n${i}`, weight))
      for (let i = 0; i < count; i++) dispatcher.pick(targets, all)!.got++
      const total = list.reduce((a, b) => a + b)
      for (const { weight, got } of targets)
        expect(Math.abs(got - (count * weight) / total)).toBeLessThan(list.length)
    }),
  )
})

test('none has more in flight for its weight than another one would have with one more', () => {
  fc.assert(
    fc.property(weights, fc.array(fc.nat(), { maxLength: 400 }), (list, commits) => {
      const dispatcher = new Dispatcher<Target>()
      const targets = list.map((weight, i) => target(`n${i}`, weight))
      for (const commit of commits) {
        const least = Math.min(...targets.map(({ inFlight, weight }) => inFlight / weight))
        const picked = dispatcher.pick(targets, all)!
        expect(picked.inFlight / picked.weight).toBe(least)
        picked.inFlight++
        const other = targets[commit % targets.length]!
        if (commit % 3 > 0 && other.inFlight > 0) other.inFlight--
      }
    }),
  )
})

test('who was passed over for long is not flooded when it is back', () => {
  const dispatcher = new Dispatcher<Target>()
  const [a, b] = [target('a', 1), target('b', 1)]
  b.inFlight = 5
  for (let i = 0; i < 10_000; i++) expect(dispatcher.pick([a, b], all)).toBe(a)
  b.inFlight = 0
  for (let i = 0; i < 200; i++) dispatcher.pick([a, b], all)!.got++
  expect(a.got).toBeGreaterThan(50)
})

test('who cannot take it does not get it', () => {
  const dispatcher = new Dispatcher<Target>()
  const [a, b] = [target('a', 1), target('b', 9)]
  expect(dispatcher.pick([a, b], (one) => one === a)).toBe(a)
  expect(dispatcher.pick([a, b], () => false)).toBeNull()
})

test('the first of a heap is the lowest, whatever changes', () => {
  const step = fc.tuple(fc.nat(20), fc.option(fc.nat(100)))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const items = Array.from({ length: 21 }, () => ({ value: 0 }))
      const inside = new Set<{ value: number }>()
      const heap = new Heap<{ value: number }>((one, other) => one.value < other.value)
      for (const [at, value] of steps) {
        const item = items[at]!
        if (value === null) {
          heap.delete(item)
          inside.delete(item)
        } else {
          item.value = value
          heap.set(item)
          inside.add(item)
        }
        expect(heap.first?.value).toBe(
          inside.size === 0 ? undefined : Math.min(...[...inside].map((one) => one.value)),
        )
      }
    }),
  )
})
