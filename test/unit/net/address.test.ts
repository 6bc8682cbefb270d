import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatAddress, isInside, parseAddress, parseBlock } from '../../../src/core/net/address.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('address')

test.each([
  ['1.2.3.4', 4, 0x01020304n],
  ['255.255.255.255', 4, 0xffffffffn],
  ['::', 6, 0n],
  ['::1', 6, 1n],
  ['1::', 6, 1n << 112n],
  ['fe80::1:2', 6, (0xfe80n << 112n) | 0x10002n],
  ['2001:DB8:0:0:8:800:200C:417A', 6, 0x20010db80000000000080800200c417an],
  ['::ffff:10.1.2.3', 4, 0x0a010203n],
  ['::ffff:a01:203', 4, 0x0a010203n],
  ['0:0:0:0:0:ffff:0a01:0203', 4, 0x0a010203n],
  ['64:ff9b::1.2.3.4', 6, (0x64ff9bn << 96n) | 0x01020304n],
] as const)('%s is an address', (text, family, value) => {
  expect(parseAddress(text)).toEqual({ family, value })
})

test.each([
  '',
  'localhost',
  '1.2.3',
  '1.2.3.4.5',
  '1.2.3.256',
  '01.2.3.4',
  '0x7f.1',
  '2130706433',
  ' 1.2.3.4',
  '1.2.3.4 ',
  '1.2.3.4\n',
  '[::1]',
  ':',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '12345::',
  'g::',
  '::1.2.3.4:5',
  '1.2.3.4::',
  'fe80::1%eth0',
])('%j is none', (text) => {
  expect(parseAddress(text)).toBeNull()
})

const group = fc.oneof(fc.constant('0'), fc.constant('ffff'), fc.stringMatching(/^[0-9a-fA-F]{1,4}$/))
const v6Text = fc
  .tuple(fc.array(group, { minLength: 8, maxLength: 8 }), fc.nat(8), fc.nat(8), fc.boolean())
  .map(([groups, from, length, shorten]) =>
    shorten
      ? `${groups.slice(0, from).join(':')}::${groups.slice(Math.min(8, from + length)).join(':')}`
      : groups.join(':'),
  )
const anyText = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  v6Text,
  fc.stringMatching(/^[0-9a-f:.]{0,40}$/),
  fc.tuple(v6Text, fc.ipV4()).map(([head, tail]) => `${head}:${tail}`),
)

test('what is an address is what Node takes for one', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      expect(parseAddress(text) !== null).toBe(isIP(text) !== 0)
    }),
    { seed, numRuns: 3_000 },
  )
})

test.each([
  ['1.2.3.4', '1.2.3.4'],
  ['::FFFF:1.2.3.4', '1.2.3.4'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['fe80:0:0:0:0:0:0:0', 'fe80::'],
])('%s is written as %s', (text, written) => {
  expect(formatAddress(parseAddress(text)!)).toBe(written)
})

test('an address is written as the same one, and as URLs write it', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), v6Text), (text) => {
      const address = parseAddress(text)
      if (address === null) return
      expect(parseAddress(formatAddress(address))).toEqual(address)
      if (address.family === 6)
        expect(`[${formatAddress(address)}]`).toBe(new URL(`http://[${text}]`).hostname)
    }),
    { seed, numRuns: 2_000 },
  )
})

test('what is inside of a block is what Node takes for it', () => {
  const v4 = fc.tuple(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.constant('ipv4' as const))
  const v6 = fc.tuple(
    fc.ipV6().filter((text) => parseAddress(text)!.family === 6),
    fc.ipV6().filter((text) => parseAddress(text)!.family === 6),
    fc.integer({ min: 0, max: 128 }),
    fc.constant('ipv6' as const),
  )
  fc.assert(
    fc.property(fc.oneof(v4, v6), fc.boolean(), ([one, other, bits, family], near) => {
      const list = new BlockList()
      list.addSubnet(other, bits, family)
      const asked = near ? other : one
      const block = parseBlock(`${other}/${bits}`)!
      expect(isInside(parseAddress(asked)!, block)).toBe(list.check(asked, family))
    }),
    { seed, numRuns: 2_000 },
  )
})

describe('blocks', () => {
  test.each([
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.1.2.3/8', '10.9.9.9', true],
    ['10.0.0.1', '10.0.0.1', true],
    ['10.0.0.1', '10.0.0.2', false],
    ['0.0.0.0/0', '255.1.1.1', true],
    ['0.0.0.0/0', '::1', false],
    ['fd00::/8', 'fd12::1', true],
    ['::ffff:10.0.0.0/104', '10.9.9.9', true],
    ['10.0.0.0/8', '::ffff:10.9.9.9', true],
  ])('%s with %s: %s', (text, address, inside) => {
    expect(isInside(parseAddress(address)!, parseBlock(text)!)).toBe(inside)
  })

  test.each([
    '',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10/8',
    '::/129',
    '::ffff:1.2.3.4/32',
    'a/8',
    '1.2.3.4/8/8',
  ])('%j is none', (text) => {
    expect(parseBlock(text)).toBeNull()
  })
})
