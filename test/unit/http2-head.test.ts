import { expect, test } from 'vitest'
import { Budget } from '../../src/core/net/budget.ts'
import { http1Head } from '../../src/edge/http2/head.ts'

const pseudo = [':method', 'GET', ':scheme', 'https', ':authority', 'app.example', ':path', '/a?b=c']

test('a head is as HTTP/1.1 would have it', () => {
  const { method, url, headers, rawHeaders } = http1Head(
    [
      ...pseudo,
      'cookie',
      'a=1',
      'x',
      '1',
      'cookie',
      'b=2',
      'x',
      '2',
      'authorization',
      'one',
      'authorization',
      'two',
      '__proto__',
      'p',
    ],
    false,
  )
  expect([method, url]).toEqual(['GET', '/a?b=c'])
  expect({ ...headers }).toEqual({
    host: 'app.example',
    cookie: 'a=1; b=2',
    x: '1, 2',
    authorization: 'one',
    ['__proto__']: 'p',
  })
  expect(rawHeaders.filter((_, i) => i % 2 === 0)).toEqual([
    'host',
    'x',
    'x',
    'authorization',
    'authorization',
    '__proto__',
    'cookie',
  ])
})

test('a body has a length or is chunked', () => {
  expect(http1Head(pseudo, true).headers['transfer-encoding']).toBe('chunked')
  expect(http1Head([...pseudo, 'content-length', '3'], true).headers['transfer-encoding']).toBe(undefined)
  expect(http1Head(pseudo, false).headers['transfer-encoding']).toBe(undefined)
})

test.each([
  ['a Host that is the authority', [...pseudo, 'host', 'app.example'], 1],
  ['a Host that is another one', [...pseudo, 'host', 'other.example'], 2],
  ['a Host alone', [':method', 'GET', ':path', '/', 'host', 'app.example'], 1],
  ['none', [':method', 'GET', ':path', '/'], 0],
  ['an authority with a user', [':authority', 'user@app.example', ':path', '/'], 0],
  ['an authority that goes on', [':authority', 'a/b', ':path', '/'], 0],
])('%s', (_what, raw, hosts) => {
  const { rawHeaders } = http1Head(raw, false)
  expect(rawHeaders.filter((name, i) => i % 2 === 0 && name === 'host').length).toBe(hosts)
})

test('a path that would be more than a path is none', () => {
  for (const path of ['/a b', '/a\tb', '/a\r\nx: y', '/a\0'])
    expect(http1Head([':path', path], false).url).toBe('')
})

test('a budget is spent at once, and comes back with time', () => {
  const budget = new Budget(3, 300, 0)
  expect([0, 0, 0, 0].map((now) => budget.take(now))).toEqual([true, true, true, false])
  expect(budget.take(150)).toBe(false)
  expect(budget.take(300)).toBe(true)
  const slow = new Budget(3, 300, 0)
  for (let now = 0; now < 10_000; now += 100) expect(slow.take(now)).toBe(true)
})
