import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RecentMessages } from '../../../src/core/channel/recent.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('recent messages')

function message(epoch: string, offset: number, bytes = 0) {
  return { position: { epoch, offset }, payload: Buffer.alloc(bytes) }
}

test('it has the newest messages, or says that it has not', () => {
  const recent = new RecentMessages(3, 1_000_000)
  expect(recent.behind({ epoch: 'a', offset: 0 })).toBeNull()
  const all = [1, 2, 3, 4, 5].map((offset) => message('a', offset))
  for (const one of all) recent.push(one)
  expect(recent.behind({ epoch: 'a', offset: 1 })).toBeNull()
  expect(recent.behind({ epoch: 'a', offset: 2 })).toEqual(all.slice(2))
  expect(recent.behind({ epoch: 'a', offset: 4 })).toEqual(all.slice(4))
  expect(recent.behind({ epoch: 'a', offset: 5 })).toEqual([])
  expect(recent.behind({ epoch: 'a', offset: 6 })).toBeNull()
  expect(recent.behind({ epoch: 'b', offset: 4 })).toBeNull()
})

test('a hole or another epoch makes it forget what came before', () => {
  const recent = new RecentMessages(10, 1_000_000)
  for (const offset of [1, 2, 4]) recent.push(message('a', offset))
  expect(recent.behind({ epoch: 'a', offset: 2 })).toBeNull()
  expect(recent.behind({ epoch: 'a', offset: 3 })).toHaveLength(1)
  recent.push(message('b', 1))
  expect(recent.behind({ epoch: 'a', offset: 4 })).toBeNull()
  expect(recent.behind({ epoch: 'b', offset: 0 })).toHaveLength(1)
})

test('older ones are added while there is room', () => {
  const recent = new RecentMessages(4, 3_000)
  expect(recent.endsAt({ epoch: 'a', offset: 9 })).toBe(false)
  recent.push(message('a', 9))
  expect(recent.endsAt({ epoch: 'a', offset: 9 })).toBe(true)
  expect(recent.endsAt({ epoch: 'b', offset: 9 })).toBe(false)
  expect(recent.unshift(message('a', 8, 100))).toBe(true)
  expect(recent.unshift(message('a', 7, 2_000))).toBe(false)
  expect(recent.unshift(message('a', 7))).toBe(true)
  expect(recent.unshift(message('a', 6))).toBe(true)
  expect(recent.unshift(message('a', 5))).toBe(false)
  expect(recent.behind({ epoch: 'a', offset: 5 })?.map(({ position }) => position.offset)).toEqual([
    6, 7, 8, 9,
  ])
})

test('it stays within both bounds', () => {
  const sizes = fc.array(fc.nat(3_000), { maxLength: 60 })
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 20 }), (payloads, size) => {
      const recent = new RecentMessages(size, 10_000)
      for (const [index, bytes] of payloads.entries()) {
        recent.push(message('a', index + 1, bytes))
        const from = index + 1 - recent.length
        const kept = recent.behind({ epoch: 'a', offset: from })
        expect(kept?.map(({ position }) => position.offset) ?? []).toEqual(
          payloads.slice(from, index + 1).map((_, n) => from + n + 1),
        )
        const held = payloads.slice(from, index + 1).reduce((sum, n) => sum + n, 0)
        expect(held).toBeLessThanOrEqual(10_000)
        expect(recent.length).toBeLessThanOrEqual(size)
      }
    }),
    { seed },
  )
})
