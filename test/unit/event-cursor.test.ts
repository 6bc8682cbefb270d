import { describe, expect, test } from 'vitest'
import { EventCursor } from '../../src/core/sse/event-cursor.ts'

function at(lastId: string, ids: (string | null)[] = []): EventCursor {
  const cursor = new EventCursor(lastId)
  for (const id of ids) cursor.delivered(id)
  return cursor
}

describe('where a client is', () => {
  test('the last id counts, blocks without one change nothing', () => {
    expect(at('7').lastId).toBe('7')
    expect(at('', ['1', null, '2', null]).lastId).toBe('2')
  })

  test('another server can go on once there are ids that fit into a header', () => {
    expect(at('7').resumable).toBe(false)
    expect(at('', [null]).resumable).toBe(false)
    expect(at('', ['1']).resumable).toBe(true)
    expect(at('', ['1', '']).resumable).toBe(false)
    expect(at('', ['a\u0001']).resumable).toBe(false)
    expect(at('', [' 1']).resumable).toBe(false)
    expect(at('', ['x'.repeat(2_000)]).resumable).toBe(false)
  })
})

describe('another server that was asked for what is behind an id', () => {
  test('is heard at once when nothing was delivered meanwhile', () => {
    const splice = at('', ['1']).follow('1')
    expect([null, '2', null, '3'].map((id) => splice.isNew(id))).toEqual([true, true, true, true])
  })

  test('repeats what was delivered meanwhile, which is passed over', () => {
    const cursor = at('', ['1'])
    const splice = cursor.follow('1')
    for (const id of ['2', null, '3']) cursor.delivered(id)
    expect(['2', null, '3', null, '4'].map((id) => splice.isNew(id))).toEqual([
      false,
      false,
      false,
      true,
      true,
    ])
  })

  test('that knows other events than the one before is heard from the first of them', () => {
    const cursor = at('', ['1'])
    const splice = cursor.follow('1')
    cursor.delivered('2')
    expect(['3', '4'].map((id) => splice.isNew(id))).toEqual([true, true])
  })

  test('is followed by the last id alone when too much was delivered to remember', () => {
    const cursor = at('', ['0'])
    const splice = cursor.follow('0')
    for (let id = 1; id <= 2_000; id++) cursor.delivered(String(id))
    const passed = Array.from({ length: 2_001 }, (_, i) => String(i + 1)).filter((id) => splice.isNew(id))
    expect(passed).toEqual(['2001'])
  })

  test('an id that was delivered before the one asked for is no repetition', () => {
    const cursor = at('', ['a', 'b'])
    const splice = cursor.follow('b')
    cursor.delivered('c')
    expect(['a'].map((id) => splice.isNew(id))).toEqual([true])
  })
})
