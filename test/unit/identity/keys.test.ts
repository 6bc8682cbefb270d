import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { keysMistake } from '../../../src/core/identity/algorithms.ts'
import { Breaker } from '../../../src/core/identity/breaker.ts'
import { refreshFor } from '../../../src/core/identity/key-refresh.ts'
import { KeysAway, parseKeySet, RemoteKeys } from '../../../src/edge/identity/key-set.ts'

const pair = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
const named = (kid: string, more = {}) => ({ ...pair, kid, ...more })

describe('a set of keys that is kept elsewhere', () => {
  function stage() {
    let now = 1_000
    let keys: object[] = [named('a')]
    let fails = false
    let asked = 0
    let hold: Promise<unknown> = Promise.resolve()
    const problems: string[] = []
    const remote = new RemoteKeys({
      cacheMs: 1_000,
      cooldownMs: 100,
      staleMs: 10_000,
      now: () => now,
      onProblem: (problem) => problems.push(problem),
      async get() {
        asked++
        await hold
        if (fails) throw new Error('down')
        return JSON.stringify({ keys })
      },
    })
    const has = async (kid: string) => (await remote.find('EdDSA', kid)).length === 1
    return {
      has,
      problems,
      asked: () => asked,
      pass: (ms: number) => {
        now += ms
      },
      publish: (...next: object[]) => {
        keys = next
      },
      holdBack: (until: Promise<unknown>) => {
        hold = until
      },
      fail: (yes: boolean) => {
        fails = yes
      },
    }
  }

  test('is asked for once by many, and once a cool-down for keys that are not in it', async () => {
    const { has, asked, pass, publish } = stage()
    expect(await Promise.all(Array.from({ length: 50 }, () => has('a')))).not.toContain(false)
    expect(asked()).toBe(1)
    publish(named('b'))
    pass(99)
    expect(await has('b')).toBe(false)
    expect(asked()).toBe(1)
    pass(1)
    expect(await Promise.all(Array.from({ length: 50 }, () => has('b')))).not.toContain(false)
    expect(asked()).toBe(2)
    expect(await has('a')).toBe(false)
    for (let i = 0; i < 50; i++) await has(`x${i}`)
    expect(asked()).toBe(2)
  })

  test('is not asked for again while it is being asked for, however long that takes', async () => {
    const { has, asked, pass, holdBack } = stage()
    const { promise, resolve } = Promise.withResolvers<void>()
    holdBack(promise)
    const first = has('a')
    pass(5_000)
    const second = has('a')
    resolve()
    expect([await first, await second]).toEqual([true, true])
    expect(asked()).toBe(1)
  })

  test('is renewed behind those who have their key, and stays while that fails, up to its bound', async () => {
    const { has, asked, pass, publish, fail, problems } = stage()
    expect(await has('a')).toBe(true)
    publish(named('b'))
    pass(1_000)
    expect(await has('a')).toBe(true)
    await expect.poll(() => has('b')).toBe(true)
    expect(asked()).toBe(2)
    fail(true)
    pass(9_999)
    expect(await has('b')).toBe(true)
    await expect.poll(() => problems.length).toBe(1)
    pass(1)
    await expect(has('b')).rejects.toThrow(KeysAway)
    fail(false)
    pass(1_000)
    expect(await has('b')).toBe(true)
  })

  test('gives no secrets, no keys for encryption, none of another type', () => {
    const secret = { kty: 'oct', k: 'c2VjcmV0', kid: 's', alg: 'HS256' }
    const set = [
      secret,
      named('e', { use: 'enc' }),
      named('o', { key_ops: ['sign'] }),
      { kty: 'RSA', kid: 'r' },
      null,
    ]
    expect(
      parseKeySet(JSON.stringify({ keys: [...set, named('a', { use: 'sig' })] })).map(({ kid }) => kid),
    ).toEqual(['a'])
    expect(() => parseKeySet('{}')).toThrow('no JWK set')
  })

  test('that was never there is tried again soon', () => {
    const rules = { cacheMs: 600_000, cooldownMs: 30_000, staleMs: 86_400_000 }
    expect(refreshFor({ fetchedAt: null, triedAt: null }, rules, true, 5)).toBe('wait')
    expect(refreshFor({ fetchedAt: null, triedAt: 0 }, rules, true, 999)).toBe('none')
    expect(refreshFor({ fetchedAt: null, triedAt: 0 }, rules, true, 1_000)).toBe('wait')
    expect(refreshFor({ fetchedAt: 0, triedAt: 0 }, rules, true, 29_999)).toBe('none')
    expect(refreshFor({ fetchedAt: 0, triedAt: 0 }, rules, false, 600_000)).toBe('behind')
  })
})

test('secrets and public keys never verify together', () => {
  const secret = { alg: 'HS256', isSecret: true } as const
  const open = { alg: 'RS256', isSecret: false } as const
  expect(keysMistake([secret], false)).toBeNull()
  expect(keysMistake([open, { ...open, alg: 'ES256' }], false)).toBeNull()
  expect(keysMistake([secret, open], false)).toContain('HS keys cannot stand beside')
  expect(keysMistake([secret], true)).toContain('HS keys cannot stand beside')
  expect(keysMistake([{ ...open, alg: 'HS256' }], false)).toContain('secretFile')
  expect(keysMistake([{ ...secret, alg: 'EdDSA' }], false)).toContain('publicKeyFile')
})

test('a breaker opens after failures in a row, and lets one question at a time find out whether to close', () => {
  const breaker = new Breaker({ failures: 2, restMs: 100 })
  breaker.failed(0)
  breaker.succeeded()
  breaker.failed(1)
  expect(breaker.mayAsk(1)).toBe(true)
  breaker.failed(2)
  expect(breaker.mayAsk(101)).toBe(false)
  expect([breaker.mayAsk(102), breaker.mayAsk(102)]).toEqual([true, false])
  breaker.failed(103)
  expect(breaker.mayAsk(104)).toBe(false)
  expect(breaker.mayAsk(203)).toBe(true)
  breaker.succeeded()
  expect([breaker.mayAsk(204), breaker.mayAsk(204)]).toEqual([true, true])
})
