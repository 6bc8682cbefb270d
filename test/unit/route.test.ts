import { describe, expect, test } from 'vitest'
import { isAmbiguousPath, matchRoute } from '../../src/core/route/match.ts'

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
    expect(matchRoute(routes, path)?.pool ?? null).toBe(pool)
  })

  test('everything with /*, nothing without routes', () => {
    expect(matchRoute([{ path: '/*', pool: 'all' }], '/ws')?.pool).toBe('all')
    expect(matchRoute([], '/ws')).toBeNull()
  })
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
