import { describe, expect, test } from 'vitest'
import { Cursor } from '../../../src/core/run/cursor.ts'
import { type Entry, parseEntry } from '../../../src/core/run/entry.ts'
import type { PlacedEvent } from '../../../src/core/run/events.ts'
import { compareOffsets, formatOffset, parseOffset } from '../../../src/core/run/offset.ts'

const texts = (epoch: number, first: number, ...data: string[]): Entry =>
  parseEntry({ epoch, first, json: JSON.stringify(data) })
const fence = (epoch: number, resume: 'restart' | 'continue', base = '0-0'): Entry =>
  parseEntry({ epoch, first: 0, json: JSON.stringify([{ type: 'fence', epoch, resume, base }]) })
const end = (epoch: number, first: number): Entry =>
  parseEntry({ epoch, first, json: '[{"type":"end","reason":"complete"}]' })

function read(after: string | null, ...entries: Entry[]) {
  const cursor = new Cursor(after === null ? null : parseOffset(after))
  const out: PlacedEvent[] = []
  const steps = entries.map((entry) => cursor.take(entry, out))
  const seen = out.map(({ offset, event }) => `${offset} ${event.type === 'delta' ? event.data : event.type}`)
  return { steps, seen, place: formatOffset(cursor.place), done: cursor.done }
}

describe('offsets', () => {
  test('are parsed, compared and written', () => {
    expect(parseOffset('12-3')).toEqual({ epoch: 12, seq: 3 })
    for (const bad of [
      '',
      '1',
      '1-',
      '-1',
      '01-2',
      '1-02',
      '1-2-3',
      '1--2',
      '4294967296-0',
      '1-99999999999',
      'a-b',
      ' 1-2',
    ])
      expect(parseOffset(bad), bad).toBeNull()
    expect(compareOffsets({ epoch: 1, seq: 9 }, { epoch: 2, seq: 0 })).toBeLessThan(0)
    expect(compareOffsets({ epoch: 1, seq: 2 }, { epoch: 1, seq: 2 })).toBe(0)
  })
})

describe('a reader', () => {
  test('gets everything from the beginning, and sees no first fence', () => {
    const { seen, place, done } = read(null, fence(1, 'restart'), texts(1, 1, 'a', 'b'), end(1, 3))
    expect(seen).toEqual(['1-1 a', '1-2 b', '1-3 end'])
    expect([place, done]).toEqual(['1-3', true])
  })

  test('begins in the middle of an entry, and takes nothing twice', () => {
    const { steps, seen } = read(
      '1-2',
      texts(1, 1, 'a', 'b'),
      texts(1, 1, 'a', 'b', 'c', 'd'),
      texts(1, 4, 'd', 'e'),
    )
    expect(steps).toEqual(['old', 'taken', 'taken'])
    expect(seen).toEqual(['1-3 c', '1-4 d', '1-5 e'])
  })

  test('sees a hole within an attempt and before one', () => {
    expect(read('1-2', texts(1, 4, 'd')).steps).toEqual(['hole'])
    expect(read('1-2', texts(2, 1, 'd')).steps).toEqual(['hole'])
    expect(read('1-2', fence(2, 'continue', '1-3')).steps).toEqual(['hole'])
    expect(read(null, fence(2, 'continue', '1-3')).steps).toEqual(['hole'])
  })

  test('is told of a restart when it has something, and not when it has nothing', () => {
    expect(read('1-2', fence(2, 'restart'), texts(2, 1, 'x')).seen).toEqual(['2-0 fence', '2-1 x'])
    const twice = read(
      null,
      fence(1, 'restart'),
      fence(2, 'restart'),
      texts(2, 1, 'x'),
      fence(3, 'restart'),
      fence(4, 'restart'),
    )
    expect(twice.seen).toEqual(['2-1 x', '3-0 fence'])
  })

  test('goes on behind a fence that continues what it has', () => {
    const { steps, seen } = read(
      '1-1',
      texts(1, 2, 'b'),
      fence(2, 'continue', '1-2'),
      fence(3, 'continue', '1-2'),
      texts(3, 1, 'c'),
    )
    expect(steps).toEqual(['taken', 'taken', 'taken', 'taken'])
    expect(seen).toEqual(['1-2 b', '2-0 fence', '3-0 fence', '3-1 c'])
    // With the fence alone it knows as much.
    expect(read('2-0', fence(3, 'continue', '1-2')).steps).toEqual(['taken'])
    expect(read('2-0', fence(3, 'continue', '2-4')).steps).toEqual(['hole'])
  })

  test('gets an end from outside when it has all that is before it', () => {
    const cancel = (epoch: number, base: string) =>
      parseEntry({ epoch, first: 0, json: JSON.stringify([{ type: 'end', reason: 'cancelled', base }]) })
    expect(read('1-1', texts(1, 2, 'b'), cancel(2, '1-2'))).toMatchObject({
      seen: ['1-2 b', '2-0 end'],
      done: true,
    })
    expect(read(null, cancel(1, '0-0'))).toMatchObject({ seen: ['1-0 end'], done: true })
    expect(read(null, fence(1, 'restart'), cancel(2, '0-0'))).toMatchObject({ done: true })
    expect(read('1-1', cancel(2, '1-2')).steps).toEqual(['hole'])
    // The log has lost what the reader has.
    expect(read('1-3', cancel(2, '1-2')).steps).toEqual(['reset'])
  })

  test('has to begin anew when it has more than is continued', () => {
    expect(read('1-9', fence(2, 'continue', '1-4')).steps).toEqual(['reset'])
  })
})
