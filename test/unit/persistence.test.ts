import type { IncomingMessage } from 'node:http'
import { describe, expect, test } from 'vitest'
import { Persistence, type PersistenceOptions } from '../../src/edge/persistence.ts'

let time = 1_700_000_000_000
const base: PersistenceOptions = {
  by: 'cookie',
  name: 'sticky',
  ttlMs: 60_000,
  secret: 'between gateways',
  pool: 'default',
  now: () => time,
}

function request(headers: Record<string, string> = {}, encrypted = false): IncomingMessage {
  return { headers, socket: { remoteAddress: '::ffff:192.0.2.7', encrypted } } as unknown as IncomingMessage
}

function issue(change: Partial<PersistenceOptions> = {}, node = 'chat-1.eu:a_b'): string {
  const [[, cookie] = []] = new Persistence({ ...base, ...change }).headers(request(), node)
  return cookie!.split(';')[0]!.slice('sticky='.length)
}

function wish(value: string, change: Partial<PersistenceOptions> = {}) {
  return new Persistence({ ...base, ...change }).wish(request({ cookie: `a=b; sticky=${value};c=d` }))
}

describe('a cookie', () => {
  test('names the node, to every gateway with the secret', () => {
    expect(wish(issue())).toEqual({ node: 'chat-1.eu:a_b' })
  })

  test('is for HTTP only, for this site, and with TLS for TLS only', () => {
    const set = (one: IncomingMessage) => new Persistence(base).headers(one, 'n')[0]!
    expect(set(request())).toEqual(['set-cookie', expect.stringMatching(/^sticky=[\w.-]+; /)])
    expect(set(request())[1]).toMatch(/; Path=\/; Max-Age=60; HttpOnly; SameSite=Lax$/)
    expect(set(request({}, true))[1]).toMatch(/; Secure$/)
    expect(set(request({ 'x-forwarded-proto': 'https' }))[1]).toMatch(/; Secure$/)
  })

  test('is worth nothing when its time is over', () => {
    const value = issue()
    const before = time
    time += 58_000
    expect(wish(value)).not.toBeNull()
    time += 2_000
    expect(wish(value)).toBeNull()
    time = before
  })

  const [expiry, mac] = issue().split('.') as [string, string]
  test.each([
    ['of another secret', issue({ secret: 'of somebody else' })],
    ['of another pool', issue({ pool: 'other' })],
    ['for another node', `${expiry}.${mac}.chat-2`],
    ['with a longer life', `${(Number.parseInt(expiry, 36) + 1).toString(36)}.${mac}.chat-1.eu:a_b`],
    ['without a signature', `${expiry}..chat-1.eu:a_b`],
    ['cut short', issue().slice(0, 20)],
    ['of any length', 'x'.repeat(10_000)],
    ['empty', ''],
    ['with a name that no node has', `${expiry}.${mac}.../../x`],
  ])('%s counts as none', (_, value) => {
    expect(wish(value)).toBeNull()
  })

  test('is found behind one of the same name that is none of ours', () => {
    const cookie = `sticky=junk; xsticky=${issue({}, 'x')}; sticky=${issue()}`
    expect(new Persistence(base).wish(request({ cookie }))).toEqual({ node: 'chat-1.eu:a_b' })
  })
})

test('a header carries the same value both ways', () => {
  const persistence = new Persistence({ ...base, by: 'header', name: 'X-Node' })
  const [[name, value] = []] = persistence.headers(request(), 'n')
  expect(name).toBe('X-Node')
  expect(persistence.wish(request({ 'x-node': value! }))).toEqual({ node: 'n' })
  expect(persistence.wish(request())).toBeNull()
})

test('an address is its own key, and the answer says nothing', () => {
  const persistence = new Persistence({ ...base, by: 'ip' })
  expect(persistence.wish(request())).toEqual({ key: '192.0.2.7' })
  expect(persistence.headers(request(), 'n')).toEqual([])
})
