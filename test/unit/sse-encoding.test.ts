import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeComment, encodeEvent } from '../../src/protocol/sse.ts'
import { EventStreamParser, type StreamEvent } from '../support/event-stream.ts'
import { asHeard, lineEnds } from '../support/hostile-text.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('sse-encoding')

function parseEventStream(text: string): { events: StreamEvent[]; retryMs: number | null } {
  const parser = new EventStreamParser()
  const events = [...parser.push(text), ...parser.finish()]
  return { events, retryMs: parser.retryMs }
}

const words = [
  'data',
  'event',
  'id',
  'retry',
  'data: x',
  'id: 7',
  'event: evil',
  'ä',
  '🌊',
  '\ud800',
  'plain',
]
const hostileText = fc
  .array(fc.oneof(fc.constantFrom(...lineEnds, ...words), fc.string({ unit: 'binary', maxLength: 5 })), {
    maxLength: 12,
  })
  .map((pieces) => pieces.join(''))
const isField = (text: string) => !/[\r\n\0]/.test(text)

describe.each(['\r', '\n', '\r\n', '\0', '\u2028', '\u2029', '\u0085'])('%j', (character) => {
  const text = `a${character}b${character}`
  const isForbidden = /[\r\n\0]/.test(character)

  test('in data', () => {
    expect(parseEventStream(encodeEvent(text)).events).toEqual([
      { type: 'message', data: asHeard(text), lastEventId: '' },
    ])
  })

  test.each(['event', 'id'] as const)(`in %s: ${isForbidden ? 'refused' : 'kept'}`, (field) => {
    if (isForbidden) {
      expect(() => encodeEvent('x', { [field]: text })).toThrow(RangeError)
      expect(() => encodeEvent('x', { [field]: character })).toThrow(RangeError)
    } else {
      const [event] = parseEventStream(encodeEvent('x', { [field]: text })).events
      expect(field === 'event' ? event?.type : event?.lastEventId).toBe(text)
    }
  })

  test(`in a comment: ${isForbidden ? 'refused' : 'kept'}`, () => {
    if (isForbidden) expect(() => encodeComment(text)).toThrow(RangeError)
    else expect(parseEventStream(encodeComment(text)).events).toEqual([])
  })
})

test.each(['', ' ', '  two', ':', 'data: x', '\n', '\n\n', 'id: 7\n\nevent: evil', '\ufeffbom'])(
  'data %j comes out as it went in',
  (data) => {
    expect(parseEventStream(encodeEvent(data)).events).toEqual([{ type: 'message', data, lastEventId: '' }])
  },
)

test.each([
  [0, 0],
  [1_500, 1_500],
  [1.9, 1],
  [-5, 0],
])('retry %d is sent as %d', (given, sent) => {
  expect(parseEventStream(encodeEvent('x', { retry: given })).retryMs).toBe(sent)
})

test('parse(encode(x)) = x, for one event and for streams of them', () => {
  const event = fc.record({
    data: hostileText,
    type: fc.option(
      hostileText.filter((text) => isField(text) && text !== ''),
      { nil: undefined },
    ),
    id: hostileText.filter(isField),
  })
  const comment = hostileText.filter(isField).map((text) => ({ comment: text }))
  const property = fc.property(fc.array(fc.oneof(event, comment), { maxLength: 6 }), (items) => {
    let text = ''
    const expected: StreamEvent[] = []
    for (const item of items) {
      if ('comment' in item) {
        text += encodeComment(item.comment)
        continue
      }
      const { data, type, id } = item
      text += encodeEvent(data, type === undefined ? { id } : { id, event: type })
      expected.push({ type: type ?? 'message', data: asHeard(data), lastEventId: id })
    }
    expect(parseEventStream(text)).toEqual({ events: expected, retryMs: null })
  })
  fc.assert(property, { seed, numRuns: 5_000 })
})

test('no field can inject another one: it is refused or it is one event', () => {
  const property = fc.property(hostileText, hostileText, hostileText, (data, event, id) => {
    let text: string
    try {
      text = encodeEvent(data, { event, id })
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError)
      expect(isField(event) && isField(id)).toBe(false)
      return
    }
    expect(parseEventStream(text).events).toHaveLength(1)
  })
  fc.assert(property, { seed, numRuns: 5_000 })
})
