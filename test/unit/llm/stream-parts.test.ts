import fc from 'fast-check'
import { expect, test } from 'vitest'
import { endOfEvent, withId } from '../../../src/core/sse/raw-events.ts'
import { Ending } from '../../../src/edge/llm/ending.ts'
import { WholeBlocks } from '../../../src/edge/llm/whole-blocks.ts'
import { EventStreamParser } from '../../support/event-stream.ts'

const field = fc.constantFrom(
  'data: {"a":1}',
  'data',
  'data:\u2028é🙂',
  ': c',
  'event: e',
  'id: x',
  'retry: 9',
)
const stream = fc
  .tuple(
    fc.constantFrom('\n', '\r\n', '\r'),
    fc.array(fc.array(field, { minLength: 1, maxLength: 3 }), { maxLength: 8 }),
  )
  .map(([ending, blocks]) => blocks.map((lines) => `${lines.join(ending)}${ending}${ending}`).join(''))

/** A last CR may be half of a line's end: something has to follow. */
const parsed = (text: string) => new EventStreamParser().push(`${text}:`)

function divided(text: string): { found: string[]; rest: string } {
  const bytes = Buffer.from(text)
  const found: string[] = []
  let from = 0
  for (
    let end = endOfEvent(bytes, 0, bytes.length);
    end !== -1;
    end = endOfEvent(bytes, from, bytes.length)
  ) {
    found.push(bytes.toString('utf8', from, end))
    from = end
  }
  return { found, rest: bytes.toString('utf8', from) }
}

test('bytes go on up to the last block that is complete, and none is lost', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(200), { maxLength: 10 }), (text, cuts) => {
      const bytes = Buffer.from(text)
      const at = [0, ...cuts.filter((cut) => cut < bytes.length).toSorted((a, b) => a - b), bytes.length]
      const blocks = new WholeBlocks(10_000)
      const out: Buffer[] = []
      for (let i = 1; i < at.length; i++) {
        const piece = bytes.subarray(at[i - 1], at[i])
        const whole = blocks.push(piece)
        if (whole === null) continue
        out.push(Buffer.from(whole))
        expect(Buffer.concat(out).toString()).toMatch(/(\n\r?\n|\r\r)$/)
      }
      expect(Buffer.concat([...out, blocks.rest()]).equals(bytes)).toBe(true)
      if (!text.includes('\r')) expect(blocks.rest().length).toBe(0)
    }),
  )
})

test('a block that does not end is not waited for without a bound', () => {
  const blocks = new WholeBlocks(100)
  blocks.push(Buffer.alloc(99, 'x'))
  expect(() => blocks.push(Buffer.from('xx'))).toThrow(RangeError)
})

test('events are as many as a client gets, and put together the stream', () => {
  fc.assert(
    fc.property(stream, (text) => {
      const { found, rest } = divided(text)
      expect(found.join('') + rest).toBe(text)
      expect(found.length).toBe(parsed(text).length)
    }),
  )
})

test('an id at the end of an event is the one that counts', () => {
  fc.assert(
    fc.property(stream, (text) => {
      const { found } = divided(text)
      const withIds = parsed(found.map((event, i) => withId(event, `1-${i}`)).join(''))
      expect(withIds.map(({ lastEventId }) => lastEventId)).toEqual(found.map((_, i) => `1-${i}`))
      expect(withIds.map(({ data }) => data)).toEqual(parsed(text).map(({ data }) => data))
    }),
  )
  expect(withId('data: [DONE]\n', '1-1')).toBe('data: [DONE]\n')
})

test('the mark of an end is found behind a long stream, and at the head of a last event as large as the answer', () => {
  const ending = new Ending()
  for (let i = 0; i < 1_000; i++) ending.add(Buffer.from(`data: ${'x'.repeat(i)}\n\n`))
  ending.add(Buffer.from('data: [DONE]\n\n'))
  expect(ending.toString()).toMatch(/x\n\ndata: \[DONE\]\n\n$/)
  const large = `event: response.completed\ndata: {"type":"response.completed","text":"${'y'.repeat(100_000)}"}\n\n`
  ending.add(Buffer.from(`data: ${'x'.repeat(3_000)}\n\n${large}`))
  expect(ending.toString()).toContain('"type":"response.completed"')
  expect(ending.toString().length).toBeLessThanOrEqual(8 * 1024)
})

test('the same mark is found in events that are kept anyway', () => {
  const event = (data: string) => `data: ${data}\n\n`
  const mark = event(`{"type":"response.completed","text":"${'y'.repeat(100_000)}"}`)
  const before = Array.from({ length: 300 }, (_, i) => event('x'.repeat(i)))
  for (const behind of ['', ': ping\n\n', event('1').repeat(20)])
    for (const stream of [`${before.join('')}${mark}${behind}`, mark + behind]) {
      const ending = new Ending()
      ending.addNewest(Buffer.from(stream))
      expect(`${ending}`).toContain('"type":"response.completed"')
      expect(`${ending}`.endsWith(stream.slice(-500))).toBe(true)
    }
})
