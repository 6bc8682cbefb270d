import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SentOutputs } from '../../src/core/session/sent-outputs.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('sent-outputs')
const limits = { count: 20, bytes: 100, ms: 1_000 }

test('nothing is let go of while it is little and young', () => {
  const sent = new SentOutputs(limits)
  for (let seq = 1; seq <= 12; seq++) sent.add(seq, 10, seq * 10, 0)
  expect(sent.trim(120)).toBe(0)
  expect(sent.expire(120, 999)).toBe(0)
})

test('too much: the oldest go, down to the limit, and only with some slack, so that it is not said of each', () => {
  const sent = new SentOutputs(limits)
  for (let seq = 1; seq <= 13; seq++) sent.add(seq, 10, seq * 10, 0)
  expect(sent.trim(130)).toBe(3)
  sent.add(14, 10, 140, 0)
  expect(sent.trim(140)).toBe(0)
})

test('too many small ones: the same', () => {
  const sent = new SentOutputs(limits)
  for (let seq = 1; seq <= 25; seq++) sent.add(seq, 1, seq, 0)
  expect(sent.trim(25)).toBe(0)
  sent.add(26, 1, 26, 0)
  expect(sent.trim(26)).toBe(6)
})

test('too old: they go, however few they are', () => {
  const sent = new SentOutputs(limits)
  sent.add(1, 10, 10, 0)
  sent.add(2, 10, 20, 500)
  expect(sent.expire(20, 1_000)).toBe(1)
  expect(sent.expire(20, 1_499)).toBe(0)
  expect(sent.expire(20, 1_500)).toBe(2)
})

test('what the socket has not taken stays, whatever it is', () => {
  const sent = new SentOutputs(limits)
  for (let seq = 1; seq <= 50; seq++) sent.add(seq, 10, seq * 10, 0)
  expect(sent.trim(35)).toBe(3)
  expect(sent.expire(55, 5_000)).toBe(5)
  expect(sent.expire(55, 5_000)).toBe(0)
})

test('whatever happens: in order, never what was not taken, and no more is kept than may be', () => {
  const step = fc.record({
    bytes: fc.integer({ min: 0, max: 60 }),
    takes: fc.double({ min: 0, max: 1, noNaN: true }),
    ms: fc.nat(400),
  })
  const property = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const sent = new SentOutputs(limits)
    const all: { bytes: number; end: number; at: number }[] = []
    let [written, taken, now, released] = [0, 0, 0, 0]
    for (const { bytes, takes, ms } of steps) {
      now += ms
      written += bytes
      taken += Math.floor((written - taken) * takes)
      all.push({ bytes, end: written, at: now })
      sent.add(all.length, bytes, written, now)
      for (const upTo of [sent.trim(taken), sent.expire(taken, now)]) {
        if (upTo === 0) continue
        expect(upTo).toBeGreaterThan(released)
        released = upTo
      }
      for (const { end } of all.slice(0, released)) expect(end).toBeLessThanOrEqual(taken)
      const kept = all.slice(released).filter(({ end }) => end <= taken)
      const keptBytes = all.slice(released).reduce((sum, one) => sum + one.bytes, 0)
      const [oldest] = kept
      if (oldest !== undefined) {
        expect(now - oldest.at).toBeLessThan(limits.ms)
        expect(keptBytes).toBeLessThanOrEqual(limits.bytes * 1.25)
      }
    }
  })
  fc.assert(property, { seed, numRuns: 2_000 })
})
