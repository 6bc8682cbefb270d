/** `more`: what has come so far is a beginning of a ClientHello. `invalid`: it is none, whatever follows. */
export type ParsedClientHello =
  | { readonly state: 'more' }
  | { readonly state: 'invalid'; readonly reason: string }
  /** The name that the client wants, in lower case; null: it says none. */
  | { readonly state: 'done'; readonly serverName: string | null }

/** Record headers included. Key shares that resist quantum computers make it 2 KiB; resumption and encrypted names add to it. */
export const clientHelloBytesMost = 16_384

const handshakeRecord = 22
const recordHeaderBytes = 5
const recordBytesMost = 16_384
const clientHello = 1
const messageHeaderBytes = 4
const serverNameExtension = 0
const hostName = 0

const more: ParsedClientHello = { state: 'more' }

/**
 * Reads the server name (SNI) from a TLS ClientHello at the beginning of what a connection has brought so far, in as many records as
 * it was divided into. What it does not know it passes over, as GREASE (RFC 8701) wants. Never asks for more than
 * `clientHelloBytesMost` bytes.
 */
export function parseClientHello(bytes: Uint8Array): ParsedClientHello {
  const pieces: Uint8Array[] = []
  let got = 0
  let wanted = messageHeaderBytes
  for (let at = 0; got < wanted; ) {
    const record = readRecord(bytes, at)
    if (typeof record === 'string') return invalid(record)
    if (record === null) return bytes.length < clientHelloBytesMost ? more : tooLong
    pieces.push(record.fragment)
    got += record.fragment.length
    at = record.end
    if (wanted > messageHeaderBytes || got < messageHeaderBytes) continue
    const [type, high, middle, low] = concat(pieces, messageHeaderBytes)
    if (type !== clientHello) return invalid('a handshake that does not begin with a ClientHello')
    wanted = messageHeaderBytes + (high! << 16) + (middle! << 8) + low!
    if (wanted > clientHelloBytesMost) return tooLong
  }
  return parseMessage(concat(pieces, wanted).subarray(messageHeaderBytes))
}

/** What there is of a record; null: nothing yet. A string says what is wrong. */
function readRecord(bytes: Uint8Array, at: number): { fragment: Uint8Array; end: number } | null | string {
  if (at < bytes.length && bytes[at] !== handshakeRecord) return 'no TLS handshake'
  if (at + 1 < bytes.length && bytes[at + 1] !== 3) return 'an unknown version of TLS'
  if (at + recordHeaderBytes > bytes.length) return null
  const length = (bytes[at + 3]! << 8) | bytes[at + 4]!
  if (length === 0 || length > recordBytesMost) return 'a record of a length that is not allowed'
  const start = at + recordHeaderBytes
  if (start === bytes.length) return null
  const end = start + length
  return { fragment: bytes.subarray(start, end), end }
}

function parseMessage(message: Uint8Array): ParsedClientHello {
  const reader = new Reader(message)
  reader.skip(2 + 32)
  reader.skip(reader.u8())
  reader.skip(reader.u16())
  reader.skip(reader.u8())
  if (reader.failed) return malformed
  if (reader.left === 0) return { state: 'done', serverName: null }
  const extensions = reader.part(reader.u16())
  if (reader.failed || reader.left > 0) return malformed
  let name: string | null = null
  while (extensions.left > 0) {
    const type = extensions.u16()
    const content = extensions.part(extensions.u16())
    if (extensions.failed) return malformed
    if (type !== serverNameExtension) continue
    if (name !== null) return invalid('two server names')
    name = parseServerName(content)
    if (name === null) return invalid('a bad server name')
  }
  return { state: 'done', serverName: name }
}

/** null: it is none that a server could have. */
function parseServerName(content: Reader): string | null {
  const list = content.part(content.u16())
  if (content.failed || content.left > 0) return null
  let name: string | null = null
  while (list.left > 0) {
    const type = list.u8()
    const value = list.part(list.u16())
    if (list.failed) return null
    if (type !== hostName) continue
    if (name !== null) return null
    name = String.fromCharCode(...value.rest).toLowerCase()
  }
  return name !== null && isHostName(name) ? name : null
}

/** Labels of letters, digits, `-` and `_`, without a dot at the end (RFC 6066 §3). */
function isHostName(name: string): boolean {
  return name.length <= 253 && /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/.test(name)
}

/** Reads numbers and parts one after another; once there were too few bytes, all that follows is empty. */
class Reader {
  failed = false
  private readonly bytes: Uint8Array
  private at = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  get left(): number {
    return this.failed ? 0 : this.bytes.length - this.at
  }

  get rest(): Uint8Array {
    return this.bytes.subarray(this.at)
  }

  u8(): number {
    return this.take(1)[0] ?? 0
  }

  u16(): number {
    const [high = 0, low = 0] = this.take(2)
    return (high << 8) | low
  }

  skip(length: number): void {
    this.take(length)
  }

  part(length: number): Reader {
    return new Reader(this.take(length))
  }

  private take(length: number): Uint8Array {
    if (length > this.left) {
      this.failed = true
      return this.bytes.subarray(0, 0)
    }
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }
}

function concat(pieces: readonly Uint8Array[], length: number): Uint8Array {
  if (pieces[0]!.length >= length) return pieces[0]!.subarray(0, length)
  const whole = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    const part = piece.subarray(0, length - at)
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function invalid(reason: string): ParsedClientHello {
  return { state: 'invalid', reason }
}

const malformed = invalid('a malformed ClientHello')
const tooLong = invalid(`a ClientHello of more than ${clientHelloBytesMost} bytes`)
