import { expect, test } from 'vitest'
import {
  defaultUpstreamId,
  hostOfUrl,
  isUpstreamId,
  originOfUrl,
  parseUpstreamUrl,
  portOfUrl,
} from '../../../src/core/net/upstream-url.ts'

test.each([
  ['http://10.0.0.7:3000', '10.0.0.7', 3000, '10.0.0.7:3000'],
  ['http://10.0.0.7', '10.0.0.7', 80, '10.0.0.7:80'],
  ['HTTPS://Chat.Internal/', 'chat.internal', 443, 'chat.internal:443'],
  ['https://[fd00::1]:8443', 'fd00::1', 8443, 'fd00::1:8443'],
  // As every parser of URLs reads it; what is dialled is what is checked.
  ['http://0x7f.1:80', '127.0.0.1', 80, '127.0.0.1:80'],
  ['http://[::ffff:127.0.0.1]', '::ffff:7f00:1', 80, '::ffff:7f00:1:80'],
  ['tcp://10.0.0.7:5432', '10.0.0.7', 5432, '10.0.0.7:5432'],
  ['TCP://Db.Internal:80/', 'db.internal', 80, 'db.internal:80'],
  ['tcp://0x7f.1:443', '127.0.0.1', 443, '127.0.0.1:443'],
  ['tcp://[fd00::1]:443', 'fd00::1', 443, 'fd00::1:443'],
])('%s', (text, host, port, id) => {
  const url = parseUpstreamUrl(text)!
  expect([hostOfUrl(url), portOfUrl(url), defaultUpstreamId(url)]).toEqual([host, port, id])
  expect(isUpstreamId(id)).toBe(true)
})

test.each([
  undefined,
  3,
  '',
  '10.0.0.7:3000',
  'ws://10.0.0.7',
  'ftp://10.0.0.7',
  'tcp://10.0.0.7',
  'tcp://10.0.0.7:0',
  'tcp://10.0.0.7:65536',
  'tcp://user@10.0.0.7:5432',
  'tcp://[fd00::1]',
  'tcp:10.0.0.7:5432',
  'file:///etc/passwd',
  'http://',
  'http:10.0.0.7',
  'http:///10.0.0.7',
  'http://user@10.0.0.7',
  'http://user:secret@10.0.0.7',
  'http://@10.0.0.7',
  'http://10.0.0.7/path',
  'http://10.0.0.7?x',
  'http://10.0.0.7#x',
  'http://10.0.0.7\\@evil',
  'http://10.0.0.7:0',
  'http://10.0.0.7:65536',
  'http://a b',
  'http://a\nb',
  ' http://a',
  `http://${'a'.repeat(600)}`,
])('%j is no upstream', (text) => {
  expect(parseUpstreamUrl(text)).toBeNull()
})

test('what an upstream is called is read as the same one', () => {
  const url = parseUpstreamUrl('tcp://DB.internal:80')!
  expect(originOfUrl(url)).toBe('tcp://db.internal:80')
  expect(parseUpstreamUrl(originOfUrl(url))).toEqual(url)
})

test.each([
  ['a', true],
  ['10.0.0.1:80', true],
  ['fd00::1:80', true],
  ['a_b-c', true],
  ['', false],
  ['a/b', false],
  ['a b', false],
  ['x'.repeat(64), true],
  ['x'.repeat(65), false],
  [3, false],
  [null, false],
])('id %j: %s', (id, valid) => {
  expect(isUpstreamId(id)).toBe(valid)
})
