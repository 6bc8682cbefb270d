import { type Address, formatAddress, parseAddress } from './address.ts'
import { crc32c } from './crc32c.ts'

/** One end of a TCP connection. */
export interface Endpoint {
  /** An IPv4 or IPv6 address as `formatAddress` writes it. */
  readonly address: string
  readonly port: number
}

export interface ProxyHeader {
  /** The client, and where it connected to. null: the connection is the proxy's own, or its ends have no IP address. */
  readonly ends: { readonly source: Endpoint; readonly destination: Endpoint } | null
  /** Bytes of the header; what follows them is the client's. */
  readonly length: number
}

/** `more`: what has come so far is a beginning of a header. `invalid`: it is none, whatever follows. */
export type ParsedProxyHeader =
  | { readonly state: 'more' }
  | { readonly state: 'invalid'; readonly reason: string }
  | ({ readonly state: 'done' } & ProxyHeader)

export type ProxyProtocolVersion = 'v1' | 'v2'

/** The protocol allows 64 KiB for extensions; a client's certificate fits into this. */
export const proxyHeaderBytesMost = 4_096

/** CRLF included, as the specification says. */
const v1BytesMost = 107
const v1Start = latin1('PROXY ')
const v2Start = latin1('\r\n\r\n\0\r\nQUIT\n')
const v2FixedBytes = v2Start.length + 4
const checksumType = 0x03
const checksumBytes = 4
const cr = 0x0d
const lf = 0x0a

const more: ParsedProxyHeader = { state: 'more' }

/**
 * Reads a PROXY protocol header, version 1 or 2, at the beginning of what a connection has brought so far. Extensions (TLVs) are
 * passed over; a checksum is checked where there is one. Never asks for more than `proxyHeaderBytesMost` bytes.
 */
export function parseProxyHeader(bytes: Uint8Array): ParsedProxyHeader {
  if (begins(bytes, v2Start)) return parseV2(bytes)
  if (begins(bytes, v1Start)) return parseV1(bytes)
  return invalid('no PROXY protocol header')
}

/** `source` null: the connection is nobody's but the proxy's own (UNKNOWN, LOCAL). `destination` is of no use then. */
export function encodeProxyHeader(
  version: ProxyProtocolVersion,
  source: Endpoint | null,
  destination: Endpoint | null,
): Uint8Array {
  const from = source === null ? null : parseAddress(source.address)
  const to = destination === null ? null : parseAddress(destination.address)
  const ends =
    from === null || to === null
      ? null
      : { from, to, fromPort: source!.port, toPort: destination!.port, isV4: from.family + to.family === 8 }
  return version === 'v1' ? encodeV1(ends) : encodeV2(ends)
}

// Version 1.

function parseV1(bytes: Uint8Array): ParsedProxyHeader {
  const end = bytes.subarray(0, v1BytesMost).indexOf(lf)
  if (end === -1) return bytes.length < v1BytesMost ? more : invalid('a line of more than 107 bytes')
  if (end === 0 || bytes[end - 1] !== cr) return invalid('a line that does not end with CRLF')
  const fields = String.fromCharCode(...bytes.subarray(v1Start.length, end - 1)).split(' ')
  const length = end + 1
  const [family, ...rest] = fields
  // What may follow it says nothing.
  if (family === 'UNKNOWN') return { state: 'done', ends: null, length }
  if ((family !== 'TCP4' && family !== 'TCP6') || rest.length !== 4)
    return invalid('a line that is not of TCP4, TCP6 or UNKNOWN with two addresses and two ports')
  const isV4 = family === 'TCP4'
  const source = endpoint(rest[0]!, rest[2]!, isV4)
  const destination = endpoint(rest[1]!, rest[3]!, isV4)
  if (source === null || destination === null)
    return invalid(`a line of ${family} with a bad address or port`)
  return { state: 'done', ends: { source, destination }, length }
}

function endpoint(host: string, port: string, isV4: boolean): Endpoint | null {
  const address = parseAddress(host)
  if (address === null || host.includes(':') === isV4) return null
  if (!/^(0|[1-9]\d{0,4})$/.test(port) || Number(port) > 65_535) return null
  return { address: formatAddress(address), port: Number(port) }
}

interface Ends {
  readonly from: Address
  readonly to: Address
  readonly fromPort: number
  readonly toPort: number
  readonly isV4: boolean
}

function encodeV1(ends: Ends | null): Uint8Array {
  if (ends === null) return latin1('PROXY UNKNOWN\r\n')
  const { from, to, fromPort, toPort, isV4 } = ends
  const text = (address: Address) => (isV4 || address.family === 6 ? '' : '::ffff:') + formatAddress(address)
  return latin1(`PROXY ${isV4 ? 'TCP4' : 'TCP6'} ${text(from)} ${text(to)} ${fromPort} ${toPort}\r\n`)
}

// Version 2.

const families = { unspecified: 0, inet: 1, inet6: 2, unix: 3 } as const
const stream = 1

function parseV2(bytes: Uint8Array): ParsedProxyHeader {
  if (bytes.length > v2Start.length) {
    const version = bytes[v2Start.length]! >> 4
    const command = bytes[v2Start.length]! & 0xf
    if (version !== 2 || command > 1) return invalid('an unknown version or command')
  }
  if (bytes.length < v2FixedBytes) return more
  const command = bytes[v2Start.length]! & 0xf
  const family = bytes[v2Start.length + 1]! >> 4
  const transport = bytes[v2Start.length + 1]! & 0xf
  if (family > families.unix || transport > 2) return invalid('an unknown family or protocol')
  const length = v2FixedBytes + readU16(bytes, v2Start.length + 2)
  if (length > proxyHeaderBytesMost) return invalid(`a header of more than ${proxyHeaderBytesMost} bytes`)
  const addressBytes = [0, 4, 16, 108][family]!
  const portBytes = family === families.inet || family === families.inet6 ? 2 : 0
  const tlvsAt = v2FixedBytes + 2 * (addressBytes + portBytes)
  const isLocal = command === 0
  // Of a connection of the proxy's own everything behind the length is to be passed over.
  if (!isLocal && length < tlvsAt) return invalid('a header too short for its addresses')
  if (bytes.length < length) return more
  if (isLocal) return { state: 'done', ends: null, length }
  const mistake = checkExtensions(bytes.subarray(0, length), tlvsAt)
  if (mistake !== null) return invalid(mistake)
  if (transport !== stream || portBytes === 0) return { state: 'done', ends: null, length }
  const portsAt = v2FixedBytes + 2 * addressBytes
  const end = (index: 0 | 1): Endpoint => ({
    address: readAddress(bytes, v2FixedBytes + index * addressBytes, addressBytes),
    port: readU16(bytes, portsAt + 2 * index),
  })
  return { state: 'done', ends: { source: end(0), destination: end(1) }, length }
}

/** What is wrong with the TLVs from `at` on, or null. */
function checkExtensions(header: Uint8Array, at: number): string | null {
  while (at < header.length) {
    if (at + 3 > header.length) return 'an extension that is cut off'
    const type = header[at]
    const valueAt = at + 3
    const end = valueAt + readU16(header, at + 1)
    if (end > header.length) return 'an extension that is cut off'
    if (type === checksumType) {
      if (end - valueAt !== checksumBytes) return 'a checksum that is not of 4 bytes'
      const told = readU16(header, valueAt) * 0x10000 + readU16(header, valueAt + 2)
      if (crc32c(header, valueAt, end) !== told) return 'a wrong checksum'
    }
    at = end
  }
  return null
}

function encodeV2(ends: Ends | null): Uint8Array {
  const addressBytes = ends === null ? 0 : ends.isV4 ? 4 : 16
  const length = ends === null ? 0 : 2 * (addressBytes + 2)
  const bytes = new Uint8Array(v2FixedBytes + length)
  bytes.set(v2Start)
  bytes[v2Start.length] = ends === null ? 0x20 : 0x21
  const family = ends === null ? families.unspecified : ends.isV4 ? families.inet : families.inet6
  bytes[v2Start.length + 1] = ends === null ? 0 : (family << 4) | stream
  writeU16(bytes, v2Start.length + 2, length)
  if (ends === null) return bytes
  writeAddress(bytes, v2FixedBytes, addressBytes, ends.from)
  writeAddress(bytes, v2FixedBytes + addressBytes, addressBytes, ends.to)
  writeU16(bytes, bytes.length - 4, ends.fromPort)
  writeU16(bytes, bytes.length - 2, ends.toPort)
  return bytes
}

function readAddress(bytes: Uint8Array, at: number, length: number): string {
  let value = 0n
  for (let i = 0; i < length; i++) value = (value << 8n) | BigInt(bytes[at + i]!)
  const isMapped = length === 16 && value >> 32n === 0xffffn
  if (length === 4 || isMapped) return formatAddress({ family: 4, value: value & 0xffffffffn })
  return formatAddress({ family: 6, value })
}

function writeAddress(bytes: Uint8Array, at: number, length: number, { family, value }: Address): void {
  let left = length === 16 && family === 4 ? (0xffffn << 32n) | value : value
  for (let i = length - 1; i >= 0; i--) {
    bytes[at + i] = Number(left & 0xffn)
    left >>= 8n
  }
}

// Bytes.

function invalid(reason: string): ParsedProxyHeader {
  return { state: 'invalid', reason }
}

/** As far as there are bytes. */
function begins(bytes: Uint8Array, start: Uint8Array): boolean {
  const length = Math.min(bytes.length, start.length)
  for (let i = 0; i < length; i++) if (bytes[i] !== start[i]) return false
  return true
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value & 0xff
}
