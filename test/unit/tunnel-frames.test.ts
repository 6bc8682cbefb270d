import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeTunnelFrames, encodeTunnelClose, encodeTunnelFrame } from '../../src/protocol/tunnel-frames.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('tunnel frames')
const bodyOf = (...pieces: Uint8Array[][]) => Buffer.concat(pieces.flat())
const frames = (body: Uint8Array) => [...decodeTunnelFrames(body)]

test('frames of any content come out as they went in', () => {
  const frame = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array())
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), (sent) => {
      const came = frames(bodyOf(...sent.map(encodeTunnelFrame)))
      const payloads = came.map((one) => {
        if (one.kind === 'close') throw new Error('a close')
        return one.text ? Buffer.from(one.payload).toString() : Uint8Array.from(one.payload)
      })
      expect(payloads).toEqual(sent)
    }),
    { seed },
  )
})

test('the end says why', () => {
  expect(frames(bodyOf(encodeTunnelFrame('m'), encodeTunnelClose(1000, 'bye ☂')))[1]).toEqual({
    kind: 'close',
    code: 1000,
    reason: 'bye ☂',
  })
})

describe('a body that is cut or made up', () => {
  const good = bodyOf(encodeTunnelFrame('mhello'))
  test.each([
    ['in the head', good.subarray(0, 3), 'the body ends in the head of a frame'],
    ['in the payload', good.subarray(0, 8), 'the body ends in a frame'],
    ['of an unknown kind', Buffer.from([3, 0, 0, 0, 0]), 'kind 3 is none of 0, 1 and 2'],
    ['a close without a code', Buffer.from([2, 1, 0, 0, 0, 1]), 'a close must say its code and reason'],
    ['a length beyond everything', Buffer.from([0, 255, 255, 255, 255]), 'the body ends in a frame'],
  ])('%s', (_, body, message) => {
    expect(() => frames(body)).toThrow(message)
  })

  test('what came before is taken', () => {
    const came: unknown[] = []
    const broken = Buffer.concat([good, good.subarray(0, 4)])
    expect(() => {
      for (const frame of decodeTunnelFrames(broken)) came.push(frame)
    }).toThrow()
    expect(came).toHaveLength(1)
  })
})
