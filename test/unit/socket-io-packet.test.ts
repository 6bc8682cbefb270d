import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  attachmentCount,
  decodeAttached,
  decodeNote,
  encodeAttached,
  encodeNote,
  isNote,
  maxAttachments,
  PacketAssembler,
  packetHead,
} from '../../src/protocol/socket-io-packet.ts'

const mebibyte = 1024 * 1024
const attachments = fc.array(fc.uint8Array({ maxLength: 64 }), { minLength: 1, maxLength: 5 })

function binaryHeader(count: number, rest: string): string {
  return `5${count}-/chat,12["e",${JSON.stringify(rest)}]`
}

test('what is glued comes apart as it was, one piece at a time or whole', () => {
  fc.assert(
    fc.property(attachments, fc.string({ unit: 'binary' }), (pieces, text) => {
      const header = binaryHeader(pieces.length, text)
      const assembler = new PacketAssembler(mebibyte)
      expect(assembler.add(header)).toBeNull()
      const results = pieces.map((piece) => assembler.add(piece))
      expect(results.slice(0, -1).every((result) => result === null)).toBe(true)
      const message = results.at(-1) as Buffer
      expect(message).toEqual(encodeAttached(header, pieces))
      const back = decodeAttached(message)
      expect(back.header).toBe(Buffer.from(header).toString())
      expect(back.attachments.map((one) => [...one])).toEqual(pieces.map((one) => [...one]))
      expect(isNote(message)).toBe(false)
    }),
  )
})

test('bytes of anybody are decoded or refused, never more than they are', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      try {
        const { header, attachments: found } = decodeAttached(Buffer.from(bytes))
        expect(encodeAttached(header, found).length).toBeGreaterThanOrEqual(bytes.length)
      } catch (error) {
        expect(error).toMatchObject({ code: 'BAD_REQUEST' })
      }
    }),
  )
})

test('a packet that is cut or has something behind it is refused', () => {
  const whole = encodeAttached(binaryHeader(2, 'x'), [Buffer.from('one'), Buffer.from('two')])
  for (let end = 0; end < whole.length; end++) expect(() => decodeAttached(whole.subarray(0, end))).toThrow()
  expect(() => decodeAttached(Buffer.concat([whole, Buffer.from('!')]))).toThrow('behind the last')
})

test('the head of a packet', () => {
  expect(packetHead('2["a"]')).toEqual({ type: 2, attachments: 0, namespace: '/', ack: null })
  expect(packetHead('213["a"]')).toEqual({ type: 2, attachments: 0, namespace: '/', ack: 13 })
  expect(packetHead('3/a-1,9007199254740991["2"]')).toEqual({
    type: 3,
    attachments: 0,
    namespace: '/a-1',
    ack: 9007199254740991,
  })
  expect(packetHead('51-/x,7["e",{"_placeholder":true,"num":0}]')).toMatchObject({
    attachments: 1,
    namespace: '/x',
    ack: 7,
  })
  expect(packetHead('0/admin,{"token":"1"}')).toMatchObject({ type: 0, namespace: '/admin', ack: null })
  expect(packetHead('1')).toMatchObject({ type: 1, namespace: '/' })
  expect(() => packetHead('9')).toThrow('unknown packet type')
})

test('the assembler refuses what no Socket.IO client sends', () => {
  expect(() => new PacketAssembler(mebibyte).add(Buffer.from('x'))).toThrow('without its packet')
  expect(() => new PacketAssembler(mebibyte).add('5["e"]')).toThrow('number of attachments')
  expect(() => new PacketAssembler(mebibyte).add('')).toThrow('unknown packet type')
  expect(() => attachmentCount(`5${maxAttachments + 1}-["e"]`)).toThrow('at most')
  const small = new PacketAssembler(20)
  small.add('51-["e"]')
  expect(() => small.add(Buffer.alloc(20))).toThrow('at most 20 bytes')
  const interrupted = new PacketAssembler(mebibyte)
  interrupted.add('51-["e"]')
  expect(() => interrupted.add('2["f"]')).toThrow('instead of an attachment')
  expect(new PacketAssembler(mebibyte).add('50-["e"]')).toBe('50-["e"]')
})

test('notes', () => {
  const note = encodeNote({ transport: 'websocket' })
  expect(isNote(note)).toBe(true)
  expect(decodeNote(note)).toEqual({ transport: 'websocket' })
  expect(() => decodeNote(Buffer.from([0, 0, 0, 0, 0x7b]))).toThrow('JSON object')
  expect(() => decodeAttached(note)).toThrow('header')
})
