const encoder = new TextEncoder()

/** Half a surrogate pair becomes the three bytes of the replacement character. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** True when the text has more than `bytes` bytes as UTF-8. */
export function isLongerThan(text: string, bytes: number): boolean {
  // A UTF-16 unit is one to three bytes, so most texts need not be encoded to know.
  if (text.length > bytes) return true
  return text.length * 3 > bytes && utf8(text).length > bytes
}
