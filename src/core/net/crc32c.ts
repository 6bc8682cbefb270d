const table = new Uint32Array(256)
for (let index = 0; index < 256; index++) {
  let value = index
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  table[index] = value
}

/** CRC-32C (Castagnoli) of the bytes; those from `zeroFrom` to `zeroTo` count as zeros. */
export function crc32c(bytes: Uint8Array, zeroFrom = 0, zeroTo = 0): number {
  let crc = 0xffffffff
  for (let at = 0; at < bytes.length; at++) {
    const byte = at >= zeroFrom && at < zeroTo ? 0 : bytes[at]!
    crc = table[(crc ^ byte) & 0xff]! ^ (crc >>> 8)
  }
  return (crc ^ 0xffffffff) >>> 0
}
