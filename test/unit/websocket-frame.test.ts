import type { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import * as ws from 'ws'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../../src/protocol/websocket-frame.ts'

// `ws` exports its receiver; its types do not say so.
const { Receiver } = ws as unknown as { Receiver: new (options: object) => Duplex }

test.each([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])(
  'ws reads a frame of %d bytes as it was written',
  async (bytes) => {
    for (const masked of [false, true]) {
      const frame = Buffer.alloc(frameHeaderBytesMax + bytes, 0xee)
      const payload = Buffer.alloc(bytes, 7)
      payload.copy(frame, frameHeaderBytesMax)
      const start = writeFrameHeader(frame, frameHeaderBytesMax, bytes, Opcode.binary, masked)
      // Nothing in front of the header is touched.
      expect(frame.subarray(0, start).every((byte) => byte === 0xee)).toBe(true)
      const receiver = new Receiver({ isServer: masked, maxPayload: 100_000 })
      const message = new Promise((resolve, reject) => {
        receiver.on('message', (data, isBinary) => resolve({ data, isBinary }))
        receiver.on('error', reject)
      })
      receiver.write(frame.subarray(start))
      expect(await message).toEqual({ data: payload, isBinary: true })
    }
  },
)
