import type { IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import { endToEnd, upstreamHeaders } from '../../src/edge/upstream/headers.ts'

function request(rawHeaders: string[], remoteAddress = '10.0.0.7'): IncomingMessage {
  const host = rawHeaders[rawHeaders.findIndex((name) => name.toLowerCase() === 'host') + 1]!
  return { rawHeaders, headers: { host }, socket: { remoteAddress } } as unknown as IncomingMessage
}

test('what is of one hop stays there, also what Connection names', () => {
  const raw = [
    'Connection',
    'close, X-Hop',
    'X-Hop',
    '1',
    'Keep-Alive',
    'timeout=5',
    'TE',
    'trailers',
    'A',
    'b',
  ]
  expect(endToEnd([...raw, 'Transfer-Encoding', 'chunked', 'Upgrade', 'h2c', 'a', 'c'])).toEqual([
    ['A', 'b'],
    ['a', 'c'],
  ])
})

test('who the client is, is said by the gateway alone', () => {
  const raw = [
    'Host',
    'chat.example',
    'X-Forwarded-For',
    '6.6.6.6',
    'FORWARDED',
    'for=6.6.6.6',
    'x-real-ip',
    '6',
  ]
  expect(upstreamHeaders(request(raw), new URL('http://10.1.1.1:3000'), () => false)).toEqual([
    ['Host', 'chat.example'],
    ['Forwarded', 'for=10.0.0.7;host="chat.example";proto=http'],
    ['X-Forwarded-For', '10.0.0.7'],
    ['X-Forwarded-Host', 'chat.example'],
    ['X-Forwarded-Proto', 'http'],
  ])
})

test('IPv6 addresses are quoted, a Host cannot end the quotes, behind TLS the Host is that of the URL', () => {
  const raw = ['Host', 'a";for=1']
  const headers = new Map(
    upstreamHeaders(request(raw, '2001:db8::1'), new URL('https://b.example'), () => false),
  )
  expect(headers.get('Forwarded')).toBe('for="[2001:db8::1]";host="afor1";proto=http')
  expect(headers.get('Host')).toBe('b.example')
})
