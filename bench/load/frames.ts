/** Head of one server frame. `headerBytes` is 0 while the head is incomplete. */
export interface FrameHead {
  final: boolean
  opcode: number
  headerBytes: number
  payloadBytes: number
}

/** Reused for every frame: the caller reads it before it asks for the next one. */
const head: FrameHead = { final: true, opcode: 0, headerBytes: 0, payloadBytes: 0 }

export function readFrameHead(buffer: Buffer, at: number, end: number): FrameHead {
  head.headerBytes = 0
  if (end - at < 2) return head
  const first = buffer[at]!
  const length = buffer[at + 1]! & 127
  const headerBytes = length < 126 ? 2 : length === 126 ? 4 : 10
  if (end - at < headerBytes) return head
  head.final = (first & 0x80) !== 0
  head.opcode = first & 0xf
  head.headerBytes = headerBytes
  head.payloadBytes =
    length < 126
      ? length
      : length === 126
        ? buffer.readUInt16BE(at + 2)
        : Number(buffer.readBigUInt64BE(at + 2))
  return head
}
