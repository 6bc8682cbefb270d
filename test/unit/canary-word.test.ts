import { expect, test } from 'vitest'
import { type CanaryWord, parseCanaryWord, writeCanaryWord } from '../../src/gateway/canary-word.ts'
import { canary } from '../support/canary-one-percent.ts'

const seen = { sessionMs: 1_000.5, failures: 1, timed: 20, timedLog: 13.2 }
const word: CanaryWord = {
  gateway: 'gw-1',
  canary,
  progress: { moved: 3, returned: 1, failed: 0, left: 2 },
  seen: { canary: seen, others: seen },
}

test('a word is read as it was written', () => {
  expect(parseCanaryWord(writeCanaryWord(word))).toEqual(word)
})

test.each([
  ['no JSON', Buffer.from('{')],
  ['an array', Buffer.from('[]')],
  ['no gateway', writeCanaryWord({ ...word, gateway: '' })],
  ['no canary', writeCanaryWord({ ...word, canary: null as never })],
  ['a canary with a share above 1', writeCanaryWord({ ...word, canary: { ...word.canary, share: 2 } })],
  ['a negative count', writeCanaryWord({ ...word, progress: { ...word.progress, left: -1 } })],
  ['one side missing', writeCanaryWord({ ...word, seen: { canary: seen } as never })],
  ['too long', Buffer.from(JSON.stringify({ ...word, more: 'x'.repeat(9_000) }))],
])('%s is nobody’s', (_, payload) => {
  expect(parseCanaryWord(payload)).toBeNull()
})
