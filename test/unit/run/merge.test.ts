import { expect, test } from 'vitest'
import { freePlaces, pickProducer } from '../../../src/core/run/dispatch.ts'
import { encodeDelta, hasEffect, parseEntry, parseTerminal } from '../../../src/core/run/entry.ts'
import type { PlacedEvent } from '../../../src/core/run/events.ts'
import { mergeDeltas, snapshotOf } from '../../../src/core/run/merge.ts'

const delta = (seq: number, data: unknown, kind = 'text', part = 0) =>
  ({ offset: `1-${seq}`, event: { type: 'delta', part, kind, data } }) as PlacedEvent

test('deltas of one part and kind are joined up to a bound, and keep the last offset', () => {
  const events = [
    delta(1, 'a'),
    delta(2, 'b'),
    delta(3, 'c', 'thinking'),
    delta(4, 'd'),
    delta(5, { x: 1 }),
    delta(6, 'e'),
    delta(7, 'f', 'text', 1),
  ]
  expect(mergeDeltas(events, 100)).toEqual([
    delta(2, 'ab'),
    delta(3, 'c', 'thinking'),
    delta(4, 'd'),
    delta(5, { x: 1 }),
    delta(6, 'e'),
    delta(7, 'f', 'text', 1),
  ])
  expect(mergeDeltas([delta(1, 'aaa'), delta(2, 'bbb'), delta(3, 'c')], 4)).toEqual([
    delta(1, 'aaa'),
    delta(3, 'bbbc'),
  ])
  expect(mergeDeltas([], 4)).toEqual([])
})

test('a snapshot is the state that deltas lead to', () => {
  expect(snapshotOf([delta(1, 'a'), delta(2, 'b'), delta(3, 'c', 'thinking')])).toEqual({
    offset: '1-3',
    event: {
      type: 'snap',
      parts: [
        { part: 0, kind: 'text', data: 'ab' },
        { part: 0, kind: 'thinking', data: 'c' },
      ],
    },
  })
  expect(snapshotOf([])).toBeNull()
  expect(
    snapshotOf([delta(1, 'a'), { offset: '1-2', event: { type: 'end', reason: 'complete' } }]),
  ).toBeNull()
})

test('events come back as they were encoded', () => {
  const odd = ['', 'x', '\u2028\r\n\0"', '🙂', '\ud83d']
  const json = `[${[...odd.map((text) => encodeDelta(0, 'text', text)), encodeDelta(2, 'tool', { a: [null] })].join(',')}]`
  const { events } = parseEntry({ epoch: 1, first: 1, json })
  expect(events.slice(0, -1).map((event) => event.type === 'delta' && event.data)).toEqual(odd)
  expect(events.at(-1)).toEqual({ type: 'delta', part: 2, kind: 'tool', data: { a: [null] } })
  expect(events.map(hasEffect)).toEqual([false, false, false, false, false, true])
})

test.each([
  '',
  '{}',
  '[]',
  '[1]',
  '[null]',
  '[[]]',
  '[{}]',
  '[{"data":"x","part":-1}]',
  '[{"data":"x","part":65536}]',
  '[{"data":"x","kind":"a b"}]',
  '[{"type":"run"}]',
])('%s is no entry', (json) => {
  expect(() => parseEntry({ epoch: 1, first: 1, json })).toThrow(
    expect.objectContaining({ code: 'RECORD_INVALID' }),
  )
})

test('a producer ends its run in two ways, and can claim no other', () => {
  expect(parseTerminal('{"type":"end","reason":"cancelled","usage":{"n":1}}')).toEqual({
    type: 'end',
    reason: 'complete',
    usage: { n: 1 },
  })
  expect(parseTerminal('{"type":"fail","code":"LOG_LOST","message":"m","retryable":true}')).toEqual({
    type: 'fail',
    code: 'HANDLER_FAILED',
    message: 'm',
    retryable: false,
  })
  for (const bad of ['', 'null', '[]', '{"type":"fence"}'])
    expect(() => parseTerminal(bad)).toThrow(expect.objectContaining({ code: 'RECORD_INVALID' }))
})

test('the producer with the least work for its weight gets the next run', () => {
  const producer = (id: string, outstanding: number, weight = 1, available = true) => ({
    id,
    outstanding,
    weight,
    available,
    concurrency: 4,
  })
  expect(pickProducer([producer('a', 1), producer('b', 0)])?.id).toBe('b')
  expect(pickProducer([producer('a', 2, 3), producer('b', 1)])?.id).toBe('a')
  expect(pickProducer([producer('a', 0, 1, false), producer('b', 3)])?.id).toBe('b')
  expect(pickProducer([producer('a', 4), producer('b', 0, 1, false)])).toBeNull()
  expect(freePlaces([producer('a', 1), producer('b', 0, 1, false), producer('c', 5)])).toBe(3)
})
