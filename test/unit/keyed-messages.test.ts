import { expect, test } from 'vitest'
import { KeyedMessages } from '../../src/core/session/keyed-messages.ts'

test('the newest 256 keys are known', () => {
  const keyed = new KeyedMessages()
  for (let seq = 1; seq <= 300; seq++) keyed.remember(`k${seq}`, seq)
  expect(keyed.get('k44')).toBeUndefined()
  expect(keyed.get('k45')).toBe(45)
  expect(keyed.entries()).toHaveLength(256)
})

test('a key that comes again is the newest', () => {
  const keyed = new KeyedMessages()
  keyed.remember('a', 1)
  keyed.remember('b', 2)
  keyed.remember('a', 3)
  expect(keyed.entries()).toEqual([
    ['b', 2],
    ['a', 3],
  ])
})

test('keys of messages that are gone are forgotten', () => {
  const keyed = new KeyedMessages()
  keyed.remember('a', 1)
  keyed.remember('b', 2)
  keyed.forget((seq) => seq > 1)
  expect(keyed.entries()).toEqual([['a', 1]])
})
