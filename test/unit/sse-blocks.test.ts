import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EventBlocks, idOf } from '../../src/core/sse/event-blocks.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (block: Uint8Array) => new TextDecoder().decode(block)

function split(pieces: Uint8Array[], maxBytes = 1_000): { blocks: string[]; rest: string } {
  const divider = new EventBlocks(maxBytes)
  const blocks = pieces.flatMap((piece) => divider.push(piece)).map(text)
  return { blocks, rest: text(divider.rest()) }
}

describe('an event stream is divided behind each blank line', () => {
  test.each([
    ['data: a\n\ndata: b\n\n', ['data: a\n\n', 'data: b\n\n'], ''],
    ['data: a\r\n\r\ndata: b\r\n\r\n', ['data: a\r\n\r\n', 'data: b\r\n\r\n'], ''],
    ['data: a\r\rdata: b\r\r', ['data: a\r\r', 'data: b\r\r'], ''],
    ['data: a\n\r\nx', ['data: a\n\r\n'], 'x'],
    ['data: a\r\n\n', ['data: a\r\n\n'], ''],
    ['data: a\r\n', [], 'data: a\r\n'],
    [': c\n\n\n\nid: 1\n\n', [': c\n\n', '\n', '\n', 'id: 1\n\n'], ''],
    ['\uFEFFdata: a\n\n', ['\uFEFFdata: a\n\n'], ''],
    ['', [], ''],
  ])('%j', (stream, blocks, rest) => {
    const whole = new TextEncoder().encode(stream)
    const divided = split([whole])
    // TextDecoder takes a byte order mark away.
    expect(divided.blocks).toEqual(blocks.map((block) => text(bytes(block))))
    expect(divided.rest).toBe(rest)
  })

  test('a byte order mark is no part of the first line; half of one is', () => {
    const bytewise = (stream: number[]) => {
      const divider = new EventBlocks(1_000)
      return stream.flatMap((byte) => divider.push(Uint8Array.of(byte)))
    }
    const event = [...bytes('id: 7\n\n')]
    for (const block of [bytewise([0xef, 0xbb, 0xbf, ...event]), bytewise(event)].flat()) {
      expect([...block]).toEqual(event)
      expect(idOf(block)).toBe('7')
    }
    expect(bytewise([0xef, 0xbb, ...event]).map((block) => [...block])).toEqual([[0xef, 0xbb, ...event]])
    expect(bytewise([0xef, 0xbb, 0xbf, 0x0a])).toHaveLength(1)
    expect(bytewise([0xef, 0x0a])).toHaveLength(0)
  })

  test('however it arrives, and put together again it is the same', () => {
    const part = fc.constantFrom('a', '\n', '\r', '\r\n', '\n\n', '\r\n\r\n', 'data: x', 'id: 1', ':')
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 30 }),
        fc.array(fc.nat(60), { maxLength: 10 }),
        (parts, cuts) => {
          const stream = bytes(parts.join(''))
          const places = [
            0,
            ...cuts.map((cut) => Math.min(cut, stream.length)).sort((a, b) => a - b),
            stream.length,
          ]
          const pieces = places.slice(1).map((end, i) => stream.subarray(places[i], end))
          const divided = split(pieces)
          expect([...divided.blocks, divided.rest].join('')).toBe(text(stream))
          // Each block ends an event for a client that reads it by itself, and none is divided.
          const events = (one: string) =>
            one
              .replaceAll('\r\n', '\n')
              .replaceAll('\r', '\n')
              .split(/(?<=\n)\n/).length
          const whole = split([stream])
          expect(divided.blocks.filter((block) => block.trim() !== '').map((block) => block.trim())).toEqual(
            whole.blocks.filter((block) => block.trim() !== '').map((block) => block.trim()),
          )
          expect(divided.blocks.every((block) => events(block) <= 3)).toBe(true)
        },
      ),
      { numRuns: 1_000 },
    )
  })

  test('an event that is too large is refused, in one piece or in many', () => {
    expect(() => split([bytes(`data: ${'x'.repeat(20)}\n\n`)], 20)).toThrow(RangeError)
    expect(() =>
      split(
        Array.from({ length: 30 }, () => bytes('x')),
        20,
      ),
    ).toThrow(RangeError)
    expect(split([bytes('data: a\n\n'.repeat(10))], 20).blocks).toHaveLength(10)
  })
})

test.each([
  ['id: 1\ndata: x\n\n', '1'],
  ['id:1\n\n', '1'],
  ['id:  1\n\n', ' 1'],
  ['id\n\n', ''],
  ['id:\n\n', ''],
  ['data: x\r\nid: 2\r\n\r\n', '2'],
  ['id: 1\nid: 2\n\n', '2'],
  ['id: 1\nid: 2\0\n\n', '1'],
  ['ident: 1\n\n', null],
  ['data: id: 1\n\n', null],
  [': id: 1\n\n', null],
  ['data: x\n\n', null],
  ['\n', null],
])('the id of %j is %j', (block, id) => {
  expect(idOf(bytes(block))).toBe(id)
})
