import { expect, test } from 'vitest'
import { type ClientKey, clientKey, type ShownClient } from '../../../src/core/balance/client-key.ts'

const client: ShownClient = {
  address: '192.0.2.7',
  query: 'room=a%20b&room=c&empty=',
  headers: { cookie: 'x=1; user=ann; user=bob', 'x-user': 'carol', many: ['a', 'b'] },
}

test.each<[ClientKey, string | undefined]>([
  [{ by: 'header', name: 'X-User' }, 'carol'],
  [{ by: 'header', name: 'many' }, 'a, b'],
  [{ by: 'header', name: 'none' }, undefined],
  [{ by: 'cookie', name: 'user' }, 'ann'],
  [{ by: 'cookie', name: 'use' }, undefined],
  [{ by: 'query', name: 'room' }, 'a b'],
  [{ by: 'query', name: 'empty' }, undefined],
])('%j is %j', (key, value) => {
  expect(clientKey('key-hash', key, client)).toBe(value)
})

test('ip-hash takes the address, other policies nothing', () => {
  expect(clientKey('ip-hash', null, client)).toBe('192.0.2.7')
  expect(clientKey('round-robin', { by: 'header', name: 'x-user' }, client)).toBeUndefined()
  expect(clientKey('key-hash', null, client)).toBeUndefined()
})

test('what a route has found comes before what the pool says, and counts for key-hash alone', () => {
  const found = { ...client, key: 'room-7' }
  expect(clientKey('key-hash', { by: 'header', name: 'x-user' }, found)).toBe('room-7')
  expect(clientKey('key-hash', null, found)).toBe('room-7')
  expect(clientKey('ip-hash', null, found)).toBe('192.0.2.7')
})

test('a long key is cut', () => {
  const long = { ...client, headers: { 'x-user': 'x'.repeat(5_000) } }
  expect(clientKey('key-hash', { by: 'header', name: 'x-user' }, long)).toHaveLength(1_024)
})
