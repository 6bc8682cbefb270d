import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { endpointKey, parseRedisUrls, redact } from '../../../src/cluster/redis-url.ts'

test('a URL says where, who, which database, and whether TLS', () => {
  expect(parseRedisUrls('redis://localhost')).toEqual({
    endpoints: [{ host: 'localhost', port: 6379 }],
    username: null,
    password: null,
    db: 0,
    tls: null,
  })
  expect(parseRedisUrls('rediss://app:p%40ss%2Cw%3Ard@redis.example:7000/3', { ca: 'x' })).toEqual({
    endpoints: [{ host: 'redis.example', port: 7000 }],
    username: 'app',
    password: 'p@ss,w:rd',
    db: 3,
    tls: { ca: 'x' },
  })
  expect(parseRedisUrls('redis://:secret@[::1]:7000/')).toMatchObject({
    endpoints: [{ host: '::1', port: 7000 }],
    username: null,
    password: 'secret',
  })
})

test('several URLs are servers of one Redis Cluster', () => {
  const expected = [
    { host: 'a', port: 1 },
    { host: 'b', port: 2 },
  ]
  expect(parseRedisUrls('redis://:x@a:1, redis://:x@b:2').endpoints).toEqual(expected)
  expect(parseRedisUrls(['redis://:x@a:1', 'redis://:x@b:2']).endpoints).toEqual(expected)
  expect(() => parseRedisUrls(['redis://:x@a:1', 'redis://:y@b:2'])).toThrow(
    'the same scheme, user, password',
  )
})

test.each([
  [''],
  [[]],
  ['localhost:6379'],
  ['http://u:hunter2@localhost'],
  ['redis://u:hunter2@localhost:port'],
  ['redis://u:hunter2@localhost/name'],
  ['redis://u:hunter2@localhost/0?password=hunter2'],
  ['redis://u:hunter2@localhost#hunter2'],
  ['redis://u:hunter2%@localhost'],
  ['redis://'],
])('refused without repeating it: %j', (url) => {
  const error = (() => {
    try {
      return parseRedisUrls(url)
    } catch (thrown) {
      return thrown
    }
  })()
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('redis') })
  expect(inspect(error, { depth: null, showHidden: true })).not.toContain('hunter2')
})

test('a password is taken out of a text in every form', () => {
  const access = parseRedisUrls('redis://:a%2Fb@localhost')
  expect(redact('AUTH a/b, or a%2Fb in a URL', access)).toBe('AUTH ***, or *** in a URL')
})

test('servers are named as in a URL', () => {
  expect(endpointKey({ host: '127.0.0.1', port: 1 })).toBe('127.0.0.1:1')
  expect(endpointKey({ host: '::1', port: 1 })).toBe('[::1]:1')
})
