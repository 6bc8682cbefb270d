import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatAddress, parseAddress } from '../../../src/core/net/address.ts'
import { crc32c } from '../../../src/core/net/crc32c.ts'
import {
  type Endpoint,
  encodeProxyHeader,
  parseProxyHeader,
  proxyHeaderBytesMost,
} from '../../../src/core/net/proxy-protocol.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('proxy-protocol')
const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]

const ends = (source: string, sourcePort: number, destination: string, destinationPort: number) => ({
  source: { address: source, port: sourcePort },
  destination: { address: destination, port: destinationPort },
})

function v2(command: number, family: number, body: readonly number[], length = body.length): Uint8Array {
  return Uint8Array.of(...signature, command, family, length >> 8, length & 0xff, ...body)
}

const v4Body = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb]
const v6Body = [
  ...[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9],
  ...[0, 1, 0xff, 0xff],
]

describe('version 1', () => {
  test.each([
    ['PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n', ends('192.0.2.1', 12345, '198.51.100.2', 443)],
    ['PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n', ends('2001:db8::1', 0, '::1', 65535)],
    ['PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n', ends('192.0.2.1', 1, '192.0.2.2', 2)],
    ['PROXY UNKNOWN\r\n', null],
    ['PROXY UNKNOWN ffff::1 whatever it says 1 2\r\n', null],
    [`PROXY UNKNOWN${' '.repeat(107 - 15)}\r\n`, null],
  ])('%j', (text, expected) => {
    const bytes = Buffer.from(`${text}GET / HTTP/1.1\r\n`)
    expect(parseProxyHeader(bytes)).toEqual({ state: 'done', ends: expected, length: text.length })
  })

  test.each([
    'GET / HTTP/1.1\r\n',
    'PROXY\r\n',
    'proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n',
    'PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.256 1 2\r\n',
    'PROXY TCP4 1.1.1.1 ::1 1 2\r\n',
    'PROXY TCP4 ::1 ::1 1 2\r\n',
    'PROXY TCP6 1.1.1.1 ::1 1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n',
    'PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n',
    'PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n',
    'PROXY UNKNOWNS\r\n',
    `PROXY UNKNOWN${' '.repeat(107 - 14)}\r\n`,
    `PROXY TCP4 ${'1'.repeat(200)}`,
  ])('%j is none', (text) => {
    expect(parseProxyHeader(Buffer.from(text))).toMatchObject({ state: 'invalid' })
  })
})

describe('version 2', () => {
  test.each([
    ['IPv4', v2(0x21, 0x11, v4Body), ends('192.0.2.1', 12345, '198.51.100.2', 443)],
    ['IPv6', v2(0x21, 0x21, v6Body), ends('2001:db8::1', 1, '10.0.0.9', 65535)],
    [
      'extensions',
      v2(0x21, 0x11, [...v4Body, 0xea, 0, 2, 7, 7, 4, 0, 0]),
      ends('192.0.2.1', 12345, '198.51.100.2', 443),
    ],
    ['LOCAL', v2(0x20, 0x00, []), null],
    ['LOCAL with anything behind it', v2(0x20, 0x11, [1, 2, 3]), null],
    ['no family', v2(0x21, 0x00, [0xea, 0, 0]), null],
    ['UNIX', v2(0x21, 0x31, Array(216).fill(0x61)), null],
    ['datagrams', v2(0x21, 0x12, v4Body), null],
  ])('%s', (_name, header, expected) => {
    const bytes = Buffer.concat([header, Buffer.from('next')])
    expect(parseProxyHeader(bytes)).toEqual({ state: 'done', ends: expected, length: header.length })
  })

  test.each([
    ['another signature', Uint8Array.of(...signature.slice(0, 11), 0x0b)],
    ['version 1', v2(0x11, 0x11, v4Body)],
    ['an unknown command', v2(0x22, 0x11, v4Body)],
    ['an unknown family', v2(0x21, 0x41, v4Body)],
    ['an unknown protocol', v2(0x21, 0x13, v4Body)],
    ['no room for the addresses', v2(0x21, 0x11, v4Body.slice(1))],
    ['an extension that is cut off', v2(0x21, 0x11, [...v4Body, 0xea, 0, 3, 7, 7])],
    ['half an extension', v2(0x21, 0x11, [...v4Body, 0xea, 0])],
    ['a checksum of two bytes', v2(0x21, 0x11, [...v4Body, 3, 0, 2, 7, 7])],
    ['too long', v2(0x21, 0x11, v4Body, proxyHeaderBytesMost - 15)],
    ['a command that is wrong before the rest is there', Uint8Array.of(...signature, 0x2f)],
  ])('%s', (_name, bytes) => {
    expect(parseProxyHeader(bytes)).toMatchObject({ state: 'invalid' })
  })

  test('a checksum is checked', () => {
    const header = v2(0x21, 0x11, [...v4Body, 0xea, 0, 1, 5, 3, 0, 4, 0, 0, 0, 0])
    const crc = crc32c(header)
    new DataView(header.buffer).setUint32(header.length - 4, crc)
    expect(parseProxyHeader(header)).toMatchObject({ state: 'done' })
    for (const at of [16, 25, 31, header.length - 1]) {
      const changed = Uint8Array.from(header)
      changed[at]! ^= 1
      expect(parseProxyHeader(changed)).toMatchObject({ state: 'invalid', reason: 'a wrong checksum' })
    }
  })

  test('CRC-32C as in RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43)
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
  })
})

describe('writing', () => {
  const of = (address: string, port: number): Endpoint => ({ address, port })

  test.each([
    [of('192.0.2.1', 12345), of('198.51.100.2', 443), 'PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n'],
    [of('2001:db8::1', 1), of('10.0.0.9', 2), 'PROXY TCP6 2001:db8::1 ::ffff:10.0.0.9 1 2\r\n'],
    [null, null, 'PROXY UNKNOWN\r\n'],
    [of('', 0), of('10.0.0.9', 2), 'PROXY UNKNOWN\r\n'],
  ])('%j %j', (source, destination, expected) => {
    expect(Buffer.from(encodeProxyHeader('v1', source, destination)).toString('latin1')).toBe(expected)
  })

  test('version 2', () => {
    expect(encodeProxyHeader('v2', of('192.0.2.1', 12345), of('198.51.100.2', 443))).toEqual(
      v2(0x21, 0x11, v4Body),
    )
    expect(encodeProxyHeader('v2', of('2001:db8::1', 1), of('10.0.0.9', 65535))).toEqual(
      v2(0x21, 0x21, v6Body),
    )
    expect(encodeProxyHeader('v2', null, null)).toEqual(v2(0x20, 0x00, []))
  })
})

const address = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => formatAddress(parseAddress(text)!))
const end = fc.record({ address, port: fc.nat(65_535) })
const version = fc.constantFrom('v1' as const, 'v2' as const)

test('what is written is read, however it is cut into pieces, and what follows is left alone', () => {
  fc.assert(
    fc.property(version, end, end, fc.uint8Array({ maxLength: 40 }), (v, source, destination, tail) => {
      const header = encodeProxyHeader(v, source, destination)
      for (let cut = 0; cut < header.length; cut++)
        expect(parseProxyHeader(header.subarray(0, cut))).toEqual({ state: 'more' })
      const parsed = parseProxyHeader(Buffer.concat([header, tail]))
      expect(parsed).toEqual({ state: 'done', ends: { source, destination }, length: header.length })
    }),
    { seed, numRuns: 300 },
  )
})

test('anything is read or refused, and no more is asked for than the bound', () => {
  const start = fc.constantFrom(
    [],
    signature,
    [...signature, 0x21, 0x11, 0, 40],
    [...signature, 0x21, 0x21],
    [...signature, 0x20, 0x00],
    [...Buffer.from('PROXY ')],
    [...Buffer.from('PROXY TCP4 1.1.1.1 ')],
  )
  const rest = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.stringMatching(/^[0-9A-F:. \r\n]{0,120}$/).map((text) => Buffer.from(text)),
  )
  fc.assert(
    fc.property(start, rest, (head, tail) => {
      const bytes = Buffer.concat([Uint8Array.from(head), tail])
      const parsed = parseProxyHeader(bytes)
      if (parsed.state === 'more') expect(bytes.length).toBeLessThan(proxyHeaderBytesMost)
      if (parsed.state === 'done') {
        expect(parsed.length).toBeLessThanOrEqual(bytes.length)
        // One answer for all: what follows a header does not change it.
        expect(parseProxyHeader(bytes.subarray(0, parsed.length))).toEqual(parsed)
        for (const { address, port } of Object.values(parsed.ends ?? {})) {
          expect(formatAddress(parseAddress(address)!)).toBe(address)
          expect(port).toBeLessThan(65_536)
        }
      }
    }),
    { seed, numRuns: 5_000 },
  )
})
