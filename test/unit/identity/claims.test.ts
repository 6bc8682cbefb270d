import { describe, expect, test } from 'vitest'
import { type ChannelPermission, mayUseChannel } from '../../../src/core/identity/channel-permissions.ts'
import {
  claimAt,
  claimHeader,
  claimTexts,
  headerText,
  pickClaims,
  userOf,
} from '../../../src/core/identity/claims.ts'
import { askAt } from '../../../src/core/identity/expiry.ts'
import { shownToken, tokenPlaces, withoutToken } from '../../../src/core/identity/shown-token.ts'

test('claims are found by their names, or by a path', () => {
  const claims = {
    sub: 'ada',
    'https://x.example/roles': ['a'],
    realm: { roles: ['r1', 2, null] },
    scope: 'read  write',
  }
  expect(claimAt(claims, 'https://x.example/roles')).toEqual(['a'])
  expect(claimTexts(claims, 'realm.roles')).toEqual(['r1', '2'])
  expect(claimTexts(claims, 'scope')).toEqual(['read', 'write'])
  for (const path of ['constructor', '__proto__', 'realm.toString', 'sub.length', 'none'])
    expect(claimAt(claims, path)).toBeUndefined()
  expect({ ...pickClaims(claims, ['sub', 'none', 'realm.roles']) }).toEqual({
    sub: 'ada',
    'realm.roles': ['r1', 2, null],
  })
})

test('a user is a text that may go into logs and headers', () => {
  expect(userOf({ sub: 7 }, 'sub')).toBe('7')
  for (const sub of ['', 'a\nb', '\ud800', 'x'.repeat(256), 1.5, null, ['a'], {}, true])
    expect(userOf({ sub }, 'sub')).toBeNull()
  expect(headerText('ü 100% \u{1f642} ')).toBe('%C3%BC 100%25 %F0%9F%99%82%20')
  expect(claimHeader({ r: ['a', 'b'] }, 'r')).toBe('a,b')
  expect(claimHeader({ r: ['a,b'] }, 'r')).toBe('["a,b"]')
  expect(claimHeader({ r: { x: 1 } }, 'r')).toBe('{"x":1}')
  expect(claimHeader({}, 'r')).toBeNull()
})

describe('channels', () => {
  const may = (rule: Partial<ChannelPermission>, claims: object, channel: string) =>
    mayUseChannel([{ match: '*', allow: ['join'], ...rule }], claims as never, channel, 'join')

  test.each([
    ['user:{sub}', { sub: 'ada' }, 'user:ada', true],
    ['user:{sub}', { sub: 'ada' }, 'user:eve', false],
    ['user:{sub}', { sub: 'ada' }, 'user:ada:x', false],
    ['user:{sub}', {}, 'user:', false],
    ['user:{sub}', { sub: '' }, 'user:', false],
    // What a user is called is text, no pattern.
    ['user:{sub}', { sub: '*' }, 'user:eve', false],
    ['user:{sub}', { sub: '*' }, 'user:*', true],
    ['room:*', {}, 'room:7', true],
    ['room:*:*', {}, 'room:7', false],
    ['*', {}, 'anything', true],
    ['{org}/{sub}/*', { org: ['a', 'a/b'], sub: 'u' }, 'a/b/u/x', true],
    ['{org}/{sub}/*', { org: ['a', 'b'], sub: 'u' }, 'c/u/x', false],
    ['*{sub}', { sub: 'aa' }, 'aaaa', true],
    ['a{b', {}, 'a{b', true],
  ])('%s for %j: %s is %s', (match, claims, channel, expected) => {
    expect(may({ match }, claims, channel)).toBe(expected)
  })

  test('rules ask for claims, and allow what they name', () => {
    const rule = { match: 'staff', claims: { role: ['admin', 'support'], level: ['2'] } }
    expect(may(rule, { role: ['x', 'support'], level: 2 }, 'staff')).toBe(true)
    expect(may(rule, { role: 'support' }, 'staff')).toBe(false)
    expect(may(rule, {}, 'staff')).toBe(false)
    expect(mayUseChannel([{ match: '*', allow: ['join'] }], {}, 'x', 'publish')).toBe(false)
    expect(mayUseChannel([], {}, 'x', 'join')).toBe(false)
  })
})

test('a token is found where it may be, and taken away from there', () => {
  const shown = {
    authorization: 'Bearer H',
    cookie: 'a=1; id=C; b=2',
    subprotocols: 'chat, evenkeel.jwt.S',
    query: 'x=1&access_token=Q&y',
  }
  const found = tokenPlaces.map((place) => shownToken(shown, [place], 'id')!.token)
  expect(found).toEqual(['H', 'S', 'Q', 'C'])
  expect(shownToken(shown, ['query', 'header'], 'id')).toEqual({ token: 'Q', place: 'query' })
  expect(shownToken({ ...shown, authorization: 'Basic H' }, ['header'], 'id')).toBeNull()
  expect(withoutToken(shown, tokenPlaces, 'id')).toEqual({
    authorization: '',
    cookie: 'a=1; b=2',
    subprotocols: 'chat',
    query: 'x=1&y',
  })
  // Where nobody looks for one the application's own stay; what is made for tokens never does.
  expect(withoutToken(shown, [], 'id')).toMatchObject({
    authorization: 'Bearer H',
    cookie: shown.cookie,
    subprotocols: 'chat',
  })
})

test('another token is asked for with a quarter of the time left, a minute at most', () => {
  expect(askAt(0, { expiresAt: 4_000, skewMs: 9 })).toBe(3_000)
  expect(askAt(0, { expiresAt: 3_600_000, skewMs: 9 })).toBe(3_540_000)
  expect(askAt(5_000, { expiresAt: 4_000, skewMs: 9 })).toBe(4_000)
})
