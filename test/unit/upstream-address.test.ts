import { expect, test } from 'vitest'
import { parseBlock } from '../../src/core/net/address.ts'
import { findAddress } from '../../src/gateway/upstream-address.ts'
import { EvenkeelError } from '../../src/protocol/errors.ts'

const none = { lookup: async () => [], refuse: () => null }

function spec(url: string, change: { address?: string; loopback?: boolean } = {}) {
  return {
    id: 'a',
    pool: 'p',
    url: new URL(url),
    weight: 1,
    origin: 'config' as const,
    address: null,
    loopback: false,
    ...change,
  }
}

const answering = (...addresses: string[]) => ({ ...none, lookup: async () => addresses })

test('a name is looked up once, an address never', async () => {
  const asked: string[] = []
  const finder = {
    ...none,
    lookup: async (host: string) => {
      asked.push(host)
      return ['10.0.0.1']
    },
  }
  const present = null
  expect(await findAddress(finder, null, spec('https://chat.internal'), present)).toEqual({
    address: { host: '10.0.0.1', port: 443 },
    problem: null,
  })
  for (const url of ['http://10.0.0.2:3000', 'http://[fd00::2]:3000'])
    await findAddress(finder, null, spec(url), present)
  const found = { address: '10.0.0.9' }
  expect(
    (await findAddress(finder, null, spec('http://chat.internal:3000', found), present)).address,
  ).toEqual({
    host: '10.0.0.9',
    port: 3000,
  })
  expect(asked).toEqual(['chat.internal'])
})

test('the present address stays as long as the name has it and it may be used', async () => {
  const asked = spec('http://chat.internal:80')
  const present = { host: '10.0.0.2', port: 80 }
  const hosts = ['10.0.0.1', '10.0.0.2', '10.0.0.3']
  const host = async (...args: Parameters<typeof findAddress>) => (await findAddress(...args)).address?.host
  expect(await host(answering(...hosts), null, asked, present)).toBe('10.0.0.2')
  expect(await host(answering(...hosts), null, asked, null)).toBe('10.0.0.1')
  expect(await host(answering('10.0.0.1', '10.0.0.3'), null, asked, present)).toBe('10.0.0.1')
  expect(await host(answering(...hosts), [parseBlock('10.0.0.3')!], asked, present)).toBe('10.0.0.3')
})

test('of several addresses one that may be used', async () => {
  const found = await findAddress(
    answering('169.254.169.254', '127.0.0.1', '10.0.0.1'),
    null,
    spec('http://x'),
    null,
  )
  expect(found.address?.host).toBe('10.0.0.1')
})

test.each([
  [['169.254.169.254'], true, 'metadata'],
  [['127.0.0.1', '::1'], true, 'loopback'],
  [[], false, 'x has no address'],
])('%j: refused %s, %s', async (addresses, refused, problem) => {
  const found = await findAddress(answering(...addresses), null, spec('http://x'), null)
  expect(found).toEqual({ address: null, refused, problem: expect.stringContaining(problem) })
})

test('a failed look-up says so; what is no answer of ours is not swallowed', async () => {
  const failing = (error: Error) => ({ ...none, lookup: () => Promise.reject(error) })
  const away = new EvenkeelError('NOT_READY', 'x cannot be resolved (EAI_AGAIN)')
  expect(await findAddress(failing(away), null, spec('http://x'), null)).toEqual({
    address: null,
    refused: false,
    problem: 'x cannot be resolved (EAI_AGAIN)',
  })
  await expect(findAddress(failing(new TypeError('bug')), null, spec('http://x'), null)).rejects.toThrow(
    'bug',
  )
})
