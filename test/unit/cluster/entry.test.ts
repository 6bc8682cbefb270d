import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Entry,
  entryBytesMax,
  entryKey,
  type NodeEntry,
  parseEntry,
  serializeEntry,
} from '../../../src/cluster/entry.ts'
import { gatewayEntry } from '../../support/clusters.ts'

const node: NodeEntry = { kind: 'node', id: 'n-1', instance: 'instance-1', pool: 'chat' }

function complaintOf(value: unknown): string | null {
  return parseEntry('gateway/a', JSON.stringify(value)).complaint
}

test('entries come back as they were written', () => {
  const entries: Entry[] = [
    node,
    { ...node, data: { weight: 2, tags: ['a', null, { b: true }] } },
    gatewayEntry('a'),
    gatewayEntry('a', { publicUrl: 'https://[2001:db8::1]:8443/base', state: 'draining' }),
    gatewayEntry('a', { internalUrl: 'wss://gateway-1.internal:8081' }),
  ]
  for (const entry of entries)
    expect(parseEntry(entryKey(entry), serializeEntry(entry))).toEqual({ entry, complaint: null })
})

test('fields that this version does not know are left out', () => {
  const json = JSON.stringify({ ...node, colour: 'blue' })
  expect(parseEntry('node/n-1', json).entry).toEqual(node)
})

describe('what is refused', () => {
  test.each([
    ['null', null, 'JSON object'],
    ['a list', [], 'JSON object'],
    ['no id', { ...gatewayEntry('a'), id: undefined }, 'id must'],
    ['an id with a slash', gatewayEntry('a/b'), 'id must'],
    ['a short instance', gatewayEntry('a', { instance: 'short' }), 'instance must'],
    ['an unknown kind', { ...gatewayEntry('a'), kind: 'proxy' }, 'kind must'],
    ['an unknown state', { ...gatewayEntry('a'), state: 'sleeping' }, 'state must'],
    ['a start that is no time', { ...gatewayEntry('a'), startedAt: 'now' }, 'startedAt must'],
    ['data that is a list', { ...gatewayEntry('a'), data: [] }, 'data must'],
    ['a node without a pool', { ...gatewayEntry('a'), kind: 'node' }, 'pool must'],
    ['another id than it is stored under', gatewayEntry('b'), 'stored under'],
  ])('%s', (_name, value, complaint) => {
    expect(complaintOf(value)).toContain(complaint)
  })

  test.each([
    'not a url',
    'file:///etc/passwd',
    'redis://10.0.0.1',
    'ws://user@10.0.0.1:8081',
    'http://169.254.169.254/latest/meta-data',
    'http://2852039166/',
    'http://0xa9.0xfe.0xa9.0xfe/',
    'http://[fe80::1]:8081',
    'http://[::ffff:169.254.169.254]/',
    'http://[fd00:ec2::254]/',
    'http://0.0.0.0:8081',
    `http://${'x'.repeat(2_048)}.example`,
    42,
  ])('the URL %s', (url) => {
    expect(complaintOf({ ...gatewayEntry('a'), internalUrl: url })).toContain('internalUrl must')
    expect(complaintOf({ ...gatewayEntry('a'), publicUrl: url })).toContain('publicUrl must')
  })

  test('more than 8 KiB, in bytes', () => {
    const overhead = serializeEntry({ ...node, data: { x: '' } }).length
    const fits = { ...node, data: { x: 'é'.repeat((entryBytesMax - overhead) / 2) } }
    expect(Buffer.byteLength(serializeEntry(fits))).toBeGreaterThan(entryBytesMax - 2)
    const tooLarge = { ...node, data: { x: `${fits.data.x}éé` } }
    expect(() => serializeEntry(tooLarge)).toThrow(expect.objectContaining({ code: 'TOO_LARGE' }))
    expect(parseEntry('node/n-1', JSON.stringify(tooLarge)).complaint).toContain('at most 8192 bytes')
  })

  test('anything at all, without throwing', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), fc.string(), (json, key) => {
        const { entry, complaint } = parseEntry(key, json)
        expect((entry === null) !== (complaint === null)).toBe(true)
      }),
    )
  })
})
