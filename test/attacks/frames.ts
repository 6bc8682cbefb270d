import type { Threat } from './threat.ts'
import { frame, handshake, openSocket, RawConnection } from './wire.ts'

const MiB = 1024 * 1024
const fragments = Buffer.concat([frame('x', 0x01), ...Array.from({ length: 1_100 }, () => frame('x', 0x00))])
const pings = Buffer.concat(Array.from({ length: 1_000 }, () => frame('', 0x89)))

/** What a WebSocket client can do with frames. */
export const frameThreats: readonly Threat[] = [
  {
    name: 'tiny fragments',
    answer: 'close 1008',
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort)
      socket.write(fragments)
      return socket.closing()
    },
  },
  {
    name: 'tiny fragments over Engine.IO',
    // engine.io ends its transport without a close frame of its own.
    answer: /^(cut|close 100[58])$/,
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort, '/engine.io/?EIO=4&transport=websocket')
      socket.write(fragments)
      return socket.closing()
    },
  },
  {
    name: 'ping flood',
    answer: 'close 1008',
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort)
      socket.write(pings)
      return socket.closing()
    },
  },
  {
    name: 'ping flood over Engine.IO',
    answer: 'close 1008',
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort, '/engine.io/?EIO=4&transport=websocket')
      socket.write(pings)
      return socket.closing()
    },
  },
  {
    name: 'compression bomb',
    answer: 'not offered, close 1002',
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = new RawConnection(publicPort)
      socket.write(handshake('/ws', ['Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits']))
      const { text } = await socket.head()
      socket.write(frame(Buffer.alloc(1_000), 0xc2))
      return `${/extensions/i.test(text) ? 'offered' : 'not offered'}, ${await socket.closing()}`
    },
  },
  {
    name: 'large message',
    answer: 'close 1009, close 1009, close 1009',
    perSecond: 2,
    async attack({ publicPort }) {
      const heads = [
        [frame('', 0x82, BigInt(MiB + 1))],
        [frame('', 0x82, 2n ** 53n - 1n)],
        [frame(Buffer.alloc(MiB / 2), 0x02), frame(Buffer.alloc(MiB / 2), 0x00), frame('x', 0x80)],
      ]
      const ends = heads.map(async (pieces) => {
        const socket = await openSocket(publicPort)
        for (const piece of pieces) socket.write(piece)
        return socket.closing()
      })
      return (await Promise.all(ends)).join(', ')
    },
  },
  {
    name: 'malformed frames',
    answer: 'close 1002, close 1002, close 1002, close 1002, close 1007, close 1002',
    perSecond: 3,
    async attack({ publicPort }) {
      const bad = [
        // A reserved opcode, no mask, a control frame that is fragmented, a continuation of nothing, no UTF-8, a close code that is none.
        frame('x', 0x83),
        Buffer.from([0x81, 0x01, 0x78]),
        frame('', 0x09),
        frame('x', 0x80),
        frame(Buffer.from([0xff])),
        frame(Buffer.from([0x03, 0xed]), 0x88),
      ]
      const ends = bad.map(async (piece) => {
        const socket = await openSocket(publicPort)
        socket.write(piece)
        return socket.closing()
      })
      return (await Promise.all(ends)).join(', ')
    },
  },
]
