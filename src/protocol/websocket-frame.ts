/** Headers of unfragmented WebSocket frames (RFC 6455 §5.2). */

export const Opcode = { text: 1, binary: 2 } as const
/** Beside the opcode: the message is compressed (RFC 7692 §6). */
export const compressedBit = 0x40

/** Length of the longest header: two bytes, an eight-byte length, a mask key. */
export const frameHeaderBytesMax = 14

/**
 * Writes a header that ends at `end` of `target` and returns where it begins; there must be room for 14 bytes. A masked frame gets
 * the key 0, which leaves the payload as it is.
 */
export function writeFrameHeader(
  target: Buffer,
  end: number,
  payloadBytes: number,
  opcode: number,
  masked: boolean,
): number {
  let at = end
  let maskBit = 0
  if (masked) {
    at -= 4
    target.fill(0, at, end)
    maskBit = 0x80
  }
  if (payloadBytes < 126) {
    target[--at] = maskBit | payloadBytes
  } else if (payloadBytes < 65536) {
    at -= 3
    target[at] = maskBit | 126
    target.writeUInt16BE(payloadBytes, at + 1)
  } else {
    at -= 9
    target[at] = maskBit | 127
    target.writeBigUInt64BE(BigInt(payloadBytes), at + 1)
  }
  target[--at] = 0x80 | opcode
  return at
}
