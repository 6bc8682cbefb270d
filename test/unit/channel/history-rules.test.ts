import fc from 'fast-check'
import { expect, test } from 'vitest'
import { historyRuleFor, matchesPattern } from '../../../src/core/channel/history-rules.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('history rules')

test.each([
  ['room:*', 'room:1', true],
  ['room:*', 'room:', true],
  ['room:*', 'room', false],
  ['room:*', 'a room:1', false],
  ['*', '', true],
  ['*', 'anything', true],
  ['', '', true],
  ['', 'a', false],
  ['a', 'a', true],
  ['a', 'b', false],
  ['*:log', 'x:log', true],
  ['*:log', 'x:logs', false],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'a-b-b-c', true],
  ['a*b*c', 'acb', false],
  ['ab*ba', 'aba', false],
  ['a*bc*c', 'abc', false],
  ['a**b', 'ab', true],
  // Nothing else is special.
  ['r.om[1]', 'room1', false],
  ['r.om[1]*', 'r.om[1]', true],
])('%j and %j: %j', (pattern, name, expected) => {
  expect(matchesPattern(pattern, name)).toBe(expected)
})

test('it agrees with a regular expression', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 12 })
  fc.assert(
    fc.property(text, name, (pattern, channel) => {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(channel)
      expect(matchesPattern(pattern, channel)).toBe(expected)
    }),
    { seed, numRuns: 5_000 },
  )
})

test('no pattern takes long', () => {
  const startedAt = performance.now()
  matchesPattern('a*'.repeat(127), `${'a'.repeat(254)}b`)
  expect(performance.now() - startedAt).toBeLessThan(100)
})

test('the first rule that matches counts', () => {
  const rules = [
    { match: 'room:7', size: 1, ttlMs: 1_000 },
    { match: 'room:*', size: 2, ttlMs: 1_000 },
  ]
  expect(historyRuleFor(rules, 'room:7')?.size).toBe(1)
  expect(historyRuleFor(rules, 'room:8')?.size).toBe(2)
  expect(historyRuleFor(rules, 'news')).toBeNull()
})
