import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseBlock } from '../../../src/core/net/address.ts'
import {
  clientBehind,
  type ForwardedHeaders,
  parseForwarded,
  type TrustRules,
} from '../../../src/core/net/forwarded.ts'

const trusting = (proxies: string[], header: TrustRules['header'] = 'any'): TrustRules => ({
  proxies: proxies.map((text) => parseBlock(text)!),
  header,
})
const none: ForwardedHeaders = { forwarded: '', xForwardedFor: '', xForwardedProto: '', xForwardedHost: '' }
const inner = trusting(['10.0.0.0/8', 'fd00::/8'])

describe('X-Forwarded-For, from the right', () => {
  test.each<[string, string, string]>([
    ['one proxy', '203.0.113.7', '203.0.113.7'],
    ['what the client says itself is to the left', '1.2.3.4, 203.0.113.7', '203.0.113.7'],
    ['two trusted proxies', '203.0.113.7, 10.1.1.1', '203.0.113.7'],
    ['a forged trusted one to the left', '10.9.9.9, 203.0.113.7, 10.1.1.1', '203.0.113.7'],
    ['only trusted ones: the leftmost', '10.1.1.1, 10.2.2.2', '10.1.1.1'],
    ['not an address: the last that is one', 'unknown, 10.2.2.2', '10.2.2.2'],
    ['not an address at all', 'unknown', '10.0.0.1'],
    ['no hole to hide behind', '203.0.113.7, , 10.1.1.1', '10.1.1.1'],
    ['nothing', '', '10.0.0.1'],
    ['ports', '203.0.113.7:443', '203.0.113.7'],
    ['IPv6', '2001:DB8::1', '2001:db8::1'],
    ['IPv6 with brackets and port', '[2001:db8::1]:443', '2001:db8::1'],
    ['IPv6 of a trusted proxy', '203.0.113.7, fd00::1', '203.0.113.7'],
    ['IPv4 in IPv6', '::ffff:203.0.113.7', '203.0.113.7'],
    ['IPv4 of a trusted proxy in IPv6', '203.0.113.7, ::ffff:10.0.0.9', '203.0.113.7'],
    ['numbers that are no address', '203.0.113.700', '10.0.0.1'],
    ['octal', '0203.0.113.7', '10.0.0.1'],
  ])('%s', (_what, xForwardedFor, address) => {
    expect(clientBehind('10.0.0.1', { ...none, xForwardedFor }, inner)).toMatchObject({ address })
  })

  test('nobody is believed who is not trusted', () => {
    const headers = { ...none, xForwardedFor: '1.2.3.4', forwarded: 'for=1.2.3.4' }
    expect(clientBehind('203.0.113.7', headers, inner)).toBe(null)
    expect(clientBehind('', headers, inner)).toBe(null)
  })

  test.each<[string, string, string, string | null, string | null]>([
    ['replaced by the proxy', 'https', 'app.example', 'https', 'app.example'],
    ['added to', 'http, https', 'evil.example, app.example', 'https', 'app.example'],
    ['nonsense', 'gopher', 'a b', null, null],
    ['absent', '', '', null, null],
    ['with a port', 'wss', 'app.example:8443', 'https', 'app.example:8443'],
    ['what would split a header', 'https', 'a\r\nb', 'https', null],
  ])('scheme and host: %s', (_what, xForwardedProto, xForwardedHost, proto, host) => {
    const headers = { ...none, xForwardedFor: '203.0.113.7', xForwardedProto, xForwardedHost }
    expect(clientBehind('10.0.0.1', headers, inner)).toEqual({ address: '203.0.113.7', proto, host })
  })

  test('scheme and host are those that the outermost trusted proxy saw', () => {
    const headers = {
      ...none,
      xForwardedFor: '203.0.113.7, 10.1.1.1',
      xForwardedProto: 'https, http',
      xForwardedHost: 'app.example, inner',
    }
    expect(clientBehind('10.0.0.1', headers, inner)).toEqual({
      address: '203.0.113.7',
      proto: 'https',
      host: 'app.example',
    })
    // A proxy that names no client, but says how it was asked.
    expect(clientBehind('10.0.0.1', { ...none, xForwardedProto: 'https' }, inner)).toEqual({
      address: '10.0.0.1',
      proto: 'https',
      host: null,
    })
  })
})

describe('Forwarded', () => {
  test.each<[string, string, string, string | null, string | null]>([
    ['one hop', 'for=203.0.113.7;proto=https;host=app.example', '203.0.113.7', 'https', 'app.example'],
    ['names in any case', 'For="203.0.113.7:47011";Proto=HTTPS', '203.0.113.7', 'https', null],
    ['IPv6', 'for="[2001:db8:cafe::17]:4711"', '2001:db8:cafe::17', null, null],
    ['two hops', 'for=203.0.113.7;proto=https, for=10.2.2.2;proto=http', '203.0.113.7', 'https', null],
    ['forged on the left', 'for=1.1.1.1;proto=http;host=evil, for=203.0.113.7', '203.0.113.7', null, null],
    ['unknown and obfuscated', 'for=unknown, for=10.2.2.2', '10.2.2.2', null, null],
    ['by is nobody', 'by=203.0.113.9;for=203.0.113.7', '203.0.113.7', null, null],
    ['empty elements', ', for=203.0.113.7, ,', '203.0.113.7', null, null],
    [
      'quoted, with what would divide it',
      'for=203.0.113.7;host="a,b;for=1.1.1.1"',
      '203.0.113.7',
      null,
      null,
    ],
    ['malformed: nothing', 'for=203.0.113.7;proto', '10.0.0.1', null, null],
    ['one name twice: nothing', 'for=1.1.1.1;for=203.0.113.7', '10.0.0.1', null, null],
    ['an open quote: nothing', 'for="203.0.113.7', '10.0.0.1', null, null],
  ])('%s', (_what, forwarded, address, proto, host) => {
    expect(clientBehind('10.0.0.1', { ...none, forwarded }, inner)).toEqual({ address, proto, host })
  })

  test('which header counts', () => {
    const both = { ...none, forwarded: 'for=1.1.1.1', xForwardedFor: '2.2.2.2' }
    const from = (header: TrustRules['header'], headers = both) =>
      clientBehind('10.0.0.1', headers, trusting(['10.0.0.1'], header))?.address
    expect(from('any')).toBe('2.2.2.2')
    expect(from('forwarded')).toBe('1.1.1.1')
    expect(from('x-forwarded')).toBe('2.2.2.2')
    expect(from('any', { ...both, xForwardedFor: '' })).toBe('1.1.1.1')
    expect(from('x-forwarded', { ...both, xForwardedFor: '' })).toBe('10.0.0.1')
    expect(from('forwarded', { ...both, forwarded: '' })).toBe('10.0.0.1')
  })
})

test('what is written is what is read', () => {
  const word = fc.stringMatching(/^[\w-]{1,8}$/)
  const value = fc.string({ maxLength: 12 }).filter((text) => /^[\t\x20-\x7e]*$/.test(text))
  const element = fc.record({ host: value, by: word })
  fc.assert(
    fc.property(fc.array(element, { maxLength: 5 }), (elements) => {
      const quote = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
      const text = elements.map(({ host, by }) => `by=${by};host=${quote(host)}`).join(' , ')
      expect(parseForwarded(text)?.map(({ host }) => host)).toEqual(elements.map(({ host }) => host))
    }),
  )
})

test('nothing that a client can write makes it somebody else', () => {
  const any = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc
      .array(
        fc.constantFrom(
          'for=',
          '10.0.0.1',
          '1.2.3.4',
          '"',
          '\\',
          ',',
          ';',
          '=',
          ' ',
          'unknown',
          '[',
          ']',
          '::',
          ':',
          'host=',
          'proto=',
          'https',
        ),
      )
      .map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(any, any, any, (forged, proto, host) => {
      // The proxy adds to what has come; where that ends in the middle of something, its own part must not be swallowed by it.
      const old = clientBehind(
        '10.0.0.1',
        { ...none, xForwardedFor: `${forged}, 203.0.113.7`, xForwardedProto: proto, xForwardedHost: host },
        inner,
      )
      expect(old?.address).toBe('203.0.113.7')
      const found = clientBehind('10.0.0.1', { ...none, forwarded: `${forged}, for=203.0.113.7` }, inner)
      // A quote that is open makes it malformed: then it is the proxy, never an address of the client's choice.
      expect(['203.0.113.7', '10.0.0.1']).toContain(found?.address)
    }),
    { numRuns: 2_000 },
  )
})
