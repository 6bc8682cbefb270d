import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { answers, behind, type Found, nowhere, readFrom, upTo } from '../../../src/core/channel/replay.ts'
import type { Position } from '../../../src/protocol/position.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('replay')

interface Message {
  readonly position: Position
}

function at(text: string): Position {
  const [epoch, offset] = text.split('-')
  return { epoch: epoch!, offset: Number(offset) }
}

/** `run('a', 3, 5)`: messages a-3 to a-5. */
function run(epoch: string, first: number, last: number): Message[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => ({
    position: { epoch, offset: first + index },
  }))
}

function found(after: string | null, head: string | null, first: number): Found<Message> {
  const end = head === null ? null : at(head)
  return {
    after: after === null ? null : at(after),
    head: end,
    messages: end === null ? [] : run(end.epoch, first, end.offset),
  }
}

function offsets(messages: readonly Message[] | undefined): number[] {
  return (messages ?? []).map(({ position }) => position.offset)
}

describe('what is behind a position', () => {
  test.each([
    // since, head, first stored, given, continuous
    ['a-3', 'a-5', 1, [4, 5], true],
    ['a-0', 'a-5', 1, [1, 2, 3, 4, 5], true],
    ['a-5', 'a-5', 1, [], true],
    ['a-2', 'a-5', 3, [3, 4, 5], true],
    ['a-1', 'a-5', 3, [3, 4, 5], false],
    ['a-6', 'a-5', 1, [], false],
    ['b-3', 'a-5', 1, [1, 2, 3, 4, 5], false],
    ['b-5', 'a-5', 4, [4, 5], false],
  ])('%s of a history that ends at %s and begins at %i', (since, head, first, given, continuous) => {
    const result = behind(at(since), { head: at(head), messages: run('a', first, at(head).offset) })
    expect([offsets(result.messages), result.continuous]).toEqual([given, continuous])
  })
})

describe('whether an answer serves a position', () => {
  test.each([
    // asked behind, head, first found, since, served
    ['a-3', 'a-5', 4, 'a-3', true],
    ['a-3', 'a-5', 4, 'a-4', true],
    ['a-3', 'a-5', 4, 'a-9', true],
    ['a-3', 'a-5', 4, 'a-2', false],
    ['a-3', 'a-5', 4, 'b-2', false],
    // Trimmed: nothing older is stored.
    ['a-1', 'a-5', 4, 'a-0', true],
    ['a-1', 'a-5', 4, 'b-2', true],
    // Of another epoch everything is behind.
    ['b-7', 'a-5', 1, 'a-0', true],
    ['b-7', 'a-5', 1, 'c-3', true],
    // Nothing came of a position that does not exist.
    ['a-9', 'a-5', 6, 'a-3', false],
    ['a-9', 'a-5', 6, 'a-9', true],
    [null, 'a-5', 6, 'a-5', false],
    ['a-3', null, 0, 'b-1', true],
  ])('behind %s there was %s from %i; %s: %s', (after, head, first, since, served) => {
    expect(answers(at(since), found(after, head, first))).toBe(served)
  })
})

describe('an answer up to where the members are', () => {
  const recent = run('a', 6, 9)
  const recentBehind = (position: Position) =>
    position.epoch === 'a' && position.offset >= 5 ? recent.slice(position.offset - 5) : null

  test.each([
    ['a-5', 'a-3', [4, 5], 'they are where it ends'],
    ['a-4', 'a-3', [4], 'they lag'],
    ['a-2', 'a-3', [], 'they lag behind all of it'],
    ['a-9', 'a-3', [4, 5, 6, 7, 8, 9], 'they moved on meanwhile'],
  ])('%s, asked from %s: %j, %s', (last, after, expected) => {
    const joined = upTo(at(last), found(after, 'a-5', at(after).offset + 1), recentBehind)
    expect(joined?.head).toEqual(at(last))
    expect(offsets(joined?.messages)).toEqual(expected)
  })

  test('nothing fits another epoch, or what is not kept any more', () => {
    expect(upTo(at('b-5'), found('a-3', 'a-5', 4), recentBehind)).toBeNull()
    expect(upTo(at('a-9'), found('a-1', 'a-4', 2), recentBehind)).toBeNull()
    expect(upTo(at('a-9'), found('a-1', null, 2), recentBehind)).toBeNull()
  })
})

test.each([
  [null, [], null],
  [null, ['a-4', 'a-2', 'b-1'], 'a-2'],
  ['a-5', [], 'a-5'],
  ['a-5', ['a-3', 'a-7'], 'a-3'],
  ['a-5', ['a-3', 'b-7'], 'b-0'],
])('from %s and %j the history is read behind %s', (last, wishes, expected) => {
  const from = readFrom(last === null ? null : at(last), wishes.map(at))
  expect(from).toEqual(expected === null ? null : at(expected))
})

test('one read serves all who ask, or another one serves those that are left', () => {
  const position = fc.record({ epoch: fc.constantFrom('a', 'b', 'c'), offset: fc.nat(8) })
  const history = fc.record({ head: fc.integer({ min: 1, max: 8 }), size: fc.integer({ min: 1, max: 8 }) })
  fc.assert(
    fc.property(
      fc.option(position),
      fc.array(position, { maxLength: 6 }),
      history,
      (last, wishes, stored) => {
        const read = (after: Position | null): Found<Message> => {
          const oldest = Math.max(1, stored.head - stored.size + 1)
          const first = after?.epoch === 'a' ? Math.max(oldest, after.offset + 1) : oldest
          const messages = after === null ? [] : run('a', first, stored.head)
          return { after, head: { epoch: 'a', offset: stored.head }, messages }
        }
        let left = wishes
        for (let reads = 1; left.length > 0; reads++) {
          const answer = read(readFrom(last, left))
          if (last !== null) expect(answers(last, answer)).toBe(true)
          for (const since of left.filter((wish) => answers(wish, answer))) {
            const { messages, continuous } = behind(since, { head: answer.head!, messages: answer.messages })
            const all = behind(since, { head: answer.head!, messages: read(nowhere).messages })
            expect([offsets(messages), continuous]).toEqual([offsets(all.messages), all.continuous])
          }
          left = left.filter((wish) => !answers(wish, answer))
          expect(reads).toBeLessThanOrEqual(wishes.length)
        }
      },
    ),
    { seed, numRuns: 3_000 },
  )
})
