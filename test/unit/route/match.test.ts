import { describe, expect, test } from 'vitest'
import { isAmbiguousPath, matchRoute, pathBelow, protocolOfPath } from '../../../src/core/route/match.ts'

const nothing = { method: 'GET', query: '', headers: {}, claims: null }
const at = (path: string, shown: Partial<typeof nothing> = {}) => ({ ...nothing, path, ...shown })

const routes = [
  { path: '/exact', pool: 'a' },
  { path: '/legacy/*', pool: 'b' },
  { path: '/legacy/special', pool: 'c' },
  { path: '/p*', pool: 'd' },
]

describe('a path finds', () => {
  test.each([
    ['/exact', 'a'],
    ['/exact/', null],
    ['/exactly', null],
    ['/legacy/', 'b'],
    ['/legacy/x/y', 'b'],
    ['/legacy', null],
    ['/Legacy/x', null],
    // The first one counts, not the closest.
    ['/legacy/special', 'b'],
    ['/p', 'd'],
    ['/pictures', 'd'],
    ['/', null],
  ])('%s → %s', (path, pool) => {
    expect(matchRoute(routes, at(path))?.pool ?? null).toBe(pool)
  })

  test('everything with /*, nothing without routes', () => {
    expect(matchRoute([{ path: '/*', pool: 'all' }], at('/ws'))?.pool).toBe('all')
    expect(matchRoute([], at('/ws'))).toBeNull()
  })
})

describe('what a protocol has below its path', () => {
  test.each([
    ['sse', '/chat/sse', '/chat/sse/abc', '/abc'],
    ['sse', '/chat/sse', '/chat/sse', ''],
    ['runs', '/chat/runs', '/chat/runs/3/events', '/3/events'],
    ['socket.io', '/chat/socket.io/', '/chat/socket.io/', '/'],
    ['socket.io', '/chat/socket.io/', '/chat/socket.io', ''],
    ['runs', '/', '/3/cancel', '/3/cancel'],
  ] as const)('%s at %s: %s', (protocol, path, asked, below) => {
    const route = matchRoute([{ path, pool: 'chat', protocol }], at(asked))
    expect(route && pathBelow(route, asked)).toBe(below)
  })

  test.each([
    ['sse', '/chat/sse', '/chat/sses'],
    ['websocket', '/chat/ws', '/chat/ws/more'],
    ['http', '/chat', '/chat/more'],
  ] as const)('%s at %s does not reach %s', (protocol, path, asked) => {
    expect(matchRoute([{ path, pool: 'chat', protocol }], at(asked))).toBeNull()
  })
})

describe('a host', () => {
  const fits = (host: string, header: string | undefined) =>
    matchRoute([{ path: '/*', pool: 'a', host }], at('/', { headers: { host: header } as object })) !== null

  test.each([
    ['a.example.com', 'a.example.com', true],
    ['a.example.com', 'A.Example.com:8080', true],
    ['a.example.com', 'a.example.com.', true],
    ['A.example.com', 'a.example.com', true],
    ['a.example.com', 'b.example.com', false],
    ['a.example.com', 'x.a.example.com', false],
    ['*.example.com', 'a.example.com', true],
    ['*.example.com', 'b.a.example.com:443', true],
    ['*.example.com', 'example.com', false],
    ['*.example.com', '.example.com', false],
    ['*.example.com', 'evil-example.com', false],
    ['[::1]', '[::1]:8080', true],
    ['a.example.com', undefined, false],
  ])('%s, asked as %s: %s', (host, header, expected) => {
    expect(fits(host, header)).toBe(expected)
  })
})

describe('conditions', () => {
  const fits = (conditions: object, shown: object) =>
    matchRoute([{ path: '/*', pool: 'a', ...conditions }], { ...nothing, path: '/', ...shown }) !== null

  test.each([
    [{ methods: ['POST', 'PUT'] }, { method: 'PUT' }, true],
    [{ methods: ['POST', 'PUT'] }, { method: 'GET' }, false],
    [{ headers: { 'X-Beta': 'yes' } }, { headers: { 'x-beta': 'yes' } }, true],
    [{ headers: { 'x-beta': 'yes' } }, { headers: { 'x-beta': 'yes!' } }, false],
    [{ headers: { 'x-beta': 'yes' } }, { headers: {} }, false],
    [{ headers: { 'x-beta': { prefix: 'v2' } } }, { headers: { 'x-beta': 'v2.1' } }, true],
    [{ headers: { 'x-beta': { prefix: 'v2' } } }, { headers: { 'x-beta': 'v1' } }, false],
    [{ headers: { 'x-beta': { present: true } } }, { headers: { 'x-beta': '' } }, true],
    [{ headers: { 'x-beta': { present: true } } }, { headers: {} }, false],
    [{ headers: { 'x-beta': { present: false } } }, { headers: {} }, true],
    [{ headers: { 'x-beta': { present: false } } }, { headers: { 'x-beta': '1' } }, false],
    [{ headers: { a: '1', b: '2' } }, { headers: { a: '1' } }, false],
    [{ headers: { constructor: { present: false } } }, { headers: {} }, true],
    [{ cookies: { tier: 'gold' } }, { headers: { cookie: 'a=1; tier=gold' } }, true],
    [{ cookies: { tier: 'gold' } }, { headers: { cookie: 'tier=silver; tier=gold' } }, true],
    [{ cookies: { tier: 'gold' } }, { headers: { cookie: 'xtier=gold' } }, false],
    [{ query: { v: { equals: '2' } } }, { query: 'a=b&v=2' }, true],
    [{ query: { v: '2' } }, { query: 'v=1' }, false],
    [{ query: { v: 'a b' } }, { query: 'v=a%20b' }, true],
    [{ claims: { sub: { prefix: 'u' } } }, { claims: { sub: 'u7' } }, true],
    [{ claims: { sub: { present: true } } }, { claims: null }, false],
    [{ claims: { sub: { present: false } } }, { claims: null }, true],
    [{ claims: { level: '3' } }, { claims: { level: 3 } }, true],
    [{ claims: { admin: 'true' } }, { claims: { admin: true } }, true],
    [{ claims: { roles: 'beta' } }, { claims: { roles: ['alpha', 'beta'] } }, true],
    [{ claims: { 'realm.roles': 'beta' } }, { claims: { realm: { roles: ['beta'] } } }, true],
    [{ claims: { 'https://x.example/role': 'a' } }, { claims: { 'https://x.example/role': 'a' } }, true],
    [{ claims: { 'realm.roles': { present: true } } }, { claims: { realm: { roles: {} } } }, false],
    [{ claims: { '__proto__.constructor': { present: true } } }, { claims: {} }, false],
    // All kinds together.
    [
      { methods: ['GET'], query: { v: '2' }, headers: { a: '1' } },
      { query: 'v=2', headers: { a: '1' } },
      true,
    ],
    [
      { methods: ['GET'], query: { v: '2' }, headers: { a: '1' } },
      { query: 'v=3', headers: { a: '1' } },
      false,
    ],
  ])('%j of %j: %s', (conditions, shown, expected) => {
    expect(fits(conditions, shown)).toBe(expected)
  })
})

test.each([
  ['/ws', 'websocket'],
  ['/sse', 'sse'],
  ['/socket.io/', 'socket.io'],
  ['/engine.io', 'engine.io'],
  ['/runs', 'runs'],
  ['/wss', null],
  ['/chat/ws', null],
  ['/*', null],
])('%s speaks %s by default', (path, protocol) => {
  expect(protocolOfPath(path)).toBe(protocol)
})

test.each([
  ['/a/b', false],
  ['/a.b/.c/..d/...', false],
  ['/@scope%2fname', false],
  ['/a/../b', true],
  ['/a/./b', true],
  ['/a/..', true],
  ['/a/%2e%2E/b', true],
  ['/a/.%2e/b', true],
  ['/a/..%2fb', true],
  ['/a%2F..%2fb', true],
  ['/a/..\\b', true],
  ['/a/..%5cb', true],
  ['/a/..;x=1/b', true],
])('%s may mean another path: %s', (path, ambiguous) => {
  expect(isAmbiguousPath(path)).toBe(ambiguous)
})
