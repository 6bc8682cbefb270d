import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseEntry, type RawEntry, sizeOf } from '../../../src/core/run/entry.ts'
import type { PlacedEvent } from '../../../src/core/run/events.ts'
import { encodeRaw } from '../../../src/edge/run-encoding.ts'
import { RelayTape } from '../../../src/gateway/relay-tape.ts'
import { RelayedEntry } from '../../../src/gateway/relayed-entry.ts'
import { SharedBatch } from '../../../src/gateway/run-batch.ts'

const text = fc.constantFrom('', '"a\\\\"', 'é🙂', 'x'.repeat(900), 'y'.repeat(20_000))
const block = fc.oneof(
  text.map((data) => Buffer.from(`data: ${data}\n\n`)),
  fc.constant(Buffer.from(': passed over\n\n')),
  fc.constant(Buffer.from([...Buffer.from('data: '), 0xff, 0x80, 0x0a, 0x0a])),
)
/** Pieces of a stream, and how many of them come before what waits is taken; `reuse`: what was taken was not kept. */
const stream = fc.record({
  pieces: fc.array(fc.record({ piece: block, takes: fc.boolean() }), { maxLength: 60 }),
  rest: fc.constantFrom('', 'data: [DONE]'),
  reuse: fc.boolean(),
})

test('what is taken piece by piece is the stream, as bytes, as JSON and as events', () => {
  fc.assert(
    fc.property(stream, ({ pieces, rest, reuse }) => {
      const tape = new RelayTape()
      const entries: RawEntry[] = []
      const events: PlacedEvent[] = []
      let isText = true
      let counted = 0
      const take = () => {
        for (let more = true; more; ) {
          const waiting = tape.count()
          const { count, bytes } = tape.take(48 * 1024)
          more = count > 0
          if (!more) continue
          expect(tape.count()).toBe(waiting - count)
          isText &&= isUtf8(bytes)
          const entry = new RelayedEntry(1, counted + 1, count, bytes, isText, null)
          counted += count
          expect(sizeOf(entry)).toBe(bytes.length)
          const opened = entry.opened()
          expect(opened.events.length).toBe(count)
          expect(parseEntry({ epoch: 1, first: entry.first, json: entry.json })).toEqual(opened)
          events.push(...opened.events.map((event, i) => ({ offset: `1-${entry.first + i}`, event })))
          if (reuse) tape.reuse()
          else entries.push(entry)
        }
      }
      for (const { piece, takes } of pieces) {
        tape.add(piece, 0, piece.length)
        if (takes) take()
      }
      tape.add(Buffer.from(rest), 0, rest.length)
      tape.close()
      take()
      const whole = Buffer.concat([...pieces.map(({ piece }) => piece), Buffer.from(rest)])
      expect(tape.length).toBe(0)
      expect(encodeRaw(new SharedBatch('run', events), 'openai', false).equals(whole)).toBe(true)
      // Nothing that was kept has been written over.
      const again = entries.flatMap((entry) => entry.source!.opened().events)
      if (!reuse) expect(again).toEqual(events.map(({ event }) => event))
      const newest = Buffer.concat(tape.newest())
      if (!reuse) expect(whole.subarray(whole.length - newest.length).equals(newest)).toBe(true)
    }),
  )
})
