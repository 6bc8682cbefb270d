import { hash, timingSafeEqual } from 'node:crypto'

/** Compares secrets in constant time, whatever their lengths are. */
export function isSameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected))
}

/** The token of an `Authorization: Bearer` header, or '' when there is none. */
export function bearerToken(header: string | undefined): string {
  return /^Bearer +(\S+) *$/i.exec(header ?? '')?.[1] ?? ''
}

function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}
