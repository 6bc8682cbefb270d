import { randomFillSync } from 'node:crypto'

/** To ask OpenSSL costs about the same for 16 bytes and for all of these. */
const pool = Buffer.allocUnsafeSlow(4096)
let used = pool.length

/** Random bytes that nobody can guess, as base64url: `bytes` of them, at most 4,096. */
export function randomText(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const text = pool.toString('base64url', used, used + bytes)
  // Who sees the memory of this process later is not to find tokens that were given away.
  pool.fill(0, used, used + bytes)
  used += bytes
  return text
}
