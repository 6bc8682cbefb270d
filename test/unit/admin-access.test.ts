import { describe, expect, test } from 'vitest'
import { assertListenAllowed, checkLocalRequest, isLoopbackHost } from '../../src/admin/access.ts'
import { bearerToken, isSameSecret } from '../../src/link/token.ts'

describe('checkLocalRequest', () => {
  test.each([
    ['localhost', undefined],
    ['localhost:8081', undefined],
    ['LocalHost:8081', undefined],
    ['127.0.0.1:9', undefined],
    ['[::1]:8081', undefined],
    ['[::1]', undefined],
    ['localhost:8081', 'http://localhost:8081'],
    ['localhost:8081', 'HTTP://LOCALHOST:8081'],
    ['localhost', 'http://localhost'],
    ['localhost:80', 'http://localhost'],
    ['localhost', 'http://localhost:80'],
    ['[::1]:8081', 'http://[::1]:8081'],
  ])('lets Host %s with Origin %s in', (host, origin) => {
    expect(checkLocalRequest({ host, ...(origin === undefined ? {} : { origin }) })).toEqual({
      allowed: true,
    })
  })

  test.each([
    undefined,
    '',
    'evil.example',
    'evil.example:8081',
    'localhost.evil.example',
    'localhost.',
    '127.0.0.1.evil.example',
    '127.0.0.2:8081',
    '127.1:8081',
    '0.0.0.0:8081',
    '10.0.0.1',
    '::1',
    '[::2]',
    'localhost:8081:8081',
    'localhost:',
    'localhost:x',
    'user@localhost',
    'localhost, evil.example',
    'localhost:8081\n',
  ])('refuses Host %j', (host) => {
    const verdict = checkLocalRequest(host === undefined ? {} : { host })
    expect(verdict).toMatchObject({ allowed: false, detail: expect.stringContaining('EVENKEEL_ADMIN_TOKEN') })
  })

  test.each([
    'null',
    '',
    'https://evil.example',
    'http://localhost:8082',
    'http://127.0.0.1:8081',
    'https://localhost:8081',
    'ws://localhost:8081',
    'http://localhost:8081.evil.example',
    'http://localhost',
    'localhost:8081',
    'chrome-extension://abc',
  ])('refuses Origin %j at localhost:8081', (origin) => {
    const verdict = checkLocalRequest({ host: 'localhost:8081', origin })
    expect(verdict).toMatchObject({ allowed: false, detail: expect.stringContaining('Origin') })
  })
})

test.each([
  ['127.0.0.1', true],
  ['127.8.9.10', true],
  ['localhost', true],
  ['LOCALHOST', true],
  ['::1', true],
  ['[::1]', true],
  ['::ffff:127.0.0.1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['', false],
  ['10.1.2.3', false],
  ['::ffff:10.1.2.3', false],
  ['gateway.internal', false],
  ['localhost.example', false],
])('isLoopbackHost(%j) is %s', (host, expected) => {
  expect(isLoopbackHost(host)).toBe(expected)
})

describe('assertListenAllowed', () => {
  test('loopback needs no token', () => {
    expect(() => assertListenAllowed({ host: '127.0.0.1', adminToken: null, nodeToken: null })).not.toThrow()
  })

  test('off loopback both tokens are enough', () => {
    expect(() => assertListenAllowed({ host: '0.0.0.0', adminToken: 'a', nodeToken: 'n' })).not.toThrow()
  })

  test.each([
    [null, null, 'without EVENKEEL_ADMIN_TOKEN and EVENKEEL_NODE_TOKEN. Set both, or listen on 127.0.0.1.'],
    ['', 'n', 'without EVENKEEL_ADMIN_TOKEN. Set it'],
    ['a', null, 'without EVENKEEL_NODE_TOKEN. Set it'],
  ])('off loopback admin token %j and node token %j are refused', (adminToken, nodeToken, message) => {
    const attempt = () => assertListenAllowed({ host: '0.0.0.0', adminToken, nodeToken })
    expect(attempt).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(message) }),
    )
  })
})

describe('bearer tokens', () => {
  const isBearer = (header?: string) => isSameSecret(bearerToken(header), 's3cret')

  test.each(['Bearer s3cret', 'bearer s3cret', 'Bearer  s3cret '])('takes %j', (header) => {
    expect(isBearer(header)).toBe(true)
  })

  test.each([
    undefined,
    '',
    's3cret',
    'Bearer',
    'Bearer ',
    'Bearer s3cre',
    'Bearer s3cret2',
    'Bearer s3cret x',
    'Basic s3cret',
  ])('refuses %j', (header) => {
    expect(isBearer(header)).toBe(false)
  })
})
