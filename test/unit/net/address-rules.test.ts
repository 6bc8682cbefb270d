import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseBlock } from '../../../src/core/net/address.ts'
import { type AddressRules, namesLoopback, refusalOfAddress } from '../../../src/core/net/address-rules.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('address rules')
const open: AddressRules = { allowed: null, loopback: true }

function list(...texts: string[]): AddressRules {
  return { allowed: texts.map((text) => parseBlock(text)!), loopback: false }
}

/** Each as itself, mapped, and behind what leads from IPv6 to IPv4. */
function disguises(v4: string): string[] {
  const [a, b, c, d] = v4.split('.').map(Number) as [number, number, number, number]
  const groups = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  return [
    v4,
    `::ffff:${v4}`,
    `::ffff:${groups}`,
    `64:ff9b::${groups}`,
    `64:ff9b::${v4}`,
    `2002:${groups}::1`,
    `::${v4}`,
  ]
}

describe('never allowed, whatever is listed', () => {
  const everything = list('0.0.0.0/0', '::/0')
  const addresses = [
    ['169.254.169.254', 'metadata'],
    ['169.254.170.2', 'metadata'],
    ['100.100.100.200', 'metadata'],
    ['168.63.129.16', 'metadata'],
    ['169.254.0.1', 'link-local'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['240.0.0.1', 'reserved'],
    ['255.255.255.255', 'reserved'],
  ]
  test.each(addresses)('%s in every form', (v4, kind) => {
    // `::0.0.0.0` and `::0.1.2.3` are written like short IPv6 addresses.
    for (const text of disguises(v4)) {
      for (const rules of [open, everything])
        expect([text, refusalOfAddress(text, rules)]).toEqual([text, expect.stringContaining(kind)])
    }
  })

  test.each([
    ['fd00:ec2::254', 'metadata'],
    ['fd00:ec2::23', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['FE80::1', 'link-local'],
    ['febf::1', 'link-local'],
    ['::', 'unspecified'],
    ['0:0:0:0:0:0:0:0', 'unspecified'],
    ['ff02::1', 'multicast'],
  ])('%s', (text, kind) => {
    for (const rules of [open, everything]) expect(refusalOfAddress(text, rules)).toContain(kind)
  })

  test.each(['', 'localhost', '1.2.3', '0x7f.1', '2130706433', 'fe80::1%eth0', '127.1'])(
    '%j is no address',
    (text) => {
      expect(refusalOfAddress(text, everything)).toContain('is no IP address')
    },
  )
})

test.each([
  '10.0.0.1',
  '172.16.1.1',
  '192.168.1.1',
  '8.8.8.8',
  '100.64.0.1',
  'fd12::1',
  '2001:db8::1',
  '::ffff:10.0.0.1',
])('%s is allowed by default', (text) => {
  expect(refusalOfAddress(text, { allowed: null, loopback: false })).toBeNull()
})

describe('loopback', () => {
  const addresses = ['::1', '0:0:0:0:0:0:0:1', ...disguises('127.0.0.1'), ...disguises('127.255.0.9')]
  test.each(addresses)('%s only where it is wanted', (text) => {
    expect(refusalOfAddress(text, { allowed: null, loopback: false })).toContain('loopback')
    expect(refusalOfAddress(text, open)).toBeNull()
  })

  test('a list decides by itself', () => {
    expect(refusalOfAddress('127.0.0.1', list('127.0.0.0/8'))).toBeNull()
    expect(refusalOfAddress('127.0.0.1', { ...list('10.0.0.0/8'), loopback: true })).toContain('not among')
  })

  test.each([
    ['localhost', true],
    ['LOCALHOST.', true],
    ['app.localhost', true],
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['[::1]', true],
    ['[::ffff:7f00:1]', true],
    ['localhost.example.com', false],
    ['notlocalhost', false],
    ['10.0.0.1', false],
    ['', false],
  ])('%s names it: %s', (text, names) => {
    expect(namesLoopback(text)).toBe(names)
  })
})

test.each([
  ['10.1.2.3', true],
  ['::ffff:10.1.2.3', true],
  ['11.0.0.1', false],
  ['fd00::7', true],
  ['fd01::7', false],
  // Allowed is what is dialled, not what may be behind it.
  ['64:ff9b::10.1.2.3', false],
])('of a list of 10.0.0.0/8 and fd00::/16 %s is allowed: %s', (text, allowed) => {
  expect(refusalOfAddress(text, list('10.0.0.0/8', 'fd00::/16')) === null).toBe(allowed)
})

test('no address of a refused block gets through in any form, and no text throws', () => {
  const link = fc.tuple(fc.nat(255), fc.nat(255)).map(([c, d]) => `169.254.${c}.${d}`)
  fc.assert(
    fc.property(link, fc.nat(6), (v4, form) => {
      expect(refusalOfAddress(disguises(v4)[form]!, open)).not.toBeNull()
    }),
    { seed, numRuns: 500 },
  )
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:./%[\]]{0,60}$/)), (text) => {
      const refusal = refusalOfAddress(text, open)
      expect(refusal === null || refusal.length < 160).toBe(true)
    }),
    { seed, numRuns: 1_000 },
  )
})
