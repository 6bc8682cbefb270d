import { once } from 'node:events'
import { duplexPair } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { clientHelloBytesMost, parseClientHello } from '../../../src/core/net/client-hello.ts'
import { matchServerName } from '../../../src/core/route/server-name.ts'
import { testSeed } from '../../support/random.ts'

const seed = testSeed('client-hello')

const u16 = (value: number) => [value >> 8, value & 0xff]
const u24 = (value: number) => [value >> 16, ...u16(value & 0xffff)]
const vector16 = (bytes: readonly number[]) => [...u16(bytes.length), ...bytes]
const vector8 = (bytes: readonly number[]) => [bytes.length, ...bytes]
const extension = (type: number, content: readonly number[]) => [...u16(type), ...vector16(content)]
const hostNames = (...names: string[]) =>
  vector16(names.flatMap((name) => [0, ...vector16([...Buffer.from(name, 'latin1')])]))
const grease = [extension(0x0a0a, []), extension(0xfafa, [0])].flat()

/** The message of a ClientHello. */
function hello(extensions: readonly number[] | null): number[] {
  const body = [
    ...u16(0x0303),
    ...Array<number>(32).fill(7),
    ...vector8(Array(32).fill(9)),
    ...vector16([0x2a, 0x2a, 0x13, 0x01]),
    ...vector8([0]),
    ...(extensions === null ? [] : vector16(extensions)),
  ]
  return [1, ...u24(body.length), ...body]
}

/** In records of these sizes; the last one takes the rest. */
function records(message: readonly number[], sizes: readonly number[] = []): Uint8Array {
  const bytes: number[] = []
  let at = 0
  for (const size of [...sizes, message.length]) {
    const part = message.slice(at, at + size)
    at += part.length
    if (part.length > 0) bytes.push(22, 3, 1, ...vector16(part))
  }
  return Uint8Array.from(bytes)
}

const named = (name: string) => hello([...grease, ...extension(0, hostNames(name)), ...extension(16, [0, 0])])

describe('by hand', () => {
  test.each([
    ['a name among others', named('a.example'), 'a.example'],
    ['upper case', named('A.Example'), 'a.example'],
    ['one label', named('localhost'), 'localhost'],
    ['no extension at all', hello(null), null],
    ['no name', hello(grease), null],
    ['a name of another kind before it', hello(extension(0, vector16([7, 0, 1, 1, 0, 0, 1, 0x61]))), 'a'],
  ])('%s', (_name, message, serverName) => {
    expect(parseClientHello(records(message))).toEqual({ state: 'done', serverName })
    expect(parseClientHello(records(message, [1, 2, 3, 50]))).toEqual({ state: 'done', serverName })
  })

  test.each([
    ['plain text', Buffer.from('GET / HTTP/1.1\r\n')],
    ['an alert', Uint8Array.of(21, 3, 1, 0, 2, 1, 0)],
    ['SSL 2', Uint8Array.of(0x80, 0x2e, 1, 3, 1)],
    ['a ServerHello', records([2, 0, 0, 1, 0])],
    ['an empty record', Uint8Array.of(22, 3, 1, 0, 0)],
    ['a record that is too long', Uint8Array.of(22, 3, 1, 0x40, 1)],
    [
      'something between two records',
      Uint8Array.from([...records(named('a').slice(0, 40)), 20, 3, 3, 0, 1, 1]),
    ],
    ['a message that is too long', records([1, 0, 0x40, 0])],
    ['a message that is cut off in itself', records([1, 0, 0, 10, ...Array<number>(10).fill(0)])],
    ['extensions with something behind them', records(lengthened(named('a')))],
    ['two names', records(hello(extension(0, hostNames('a', 'b'))))],
    [
      'two extensions of a name',
      records(hello([...extension(0, hostNames('a')), ...extension(0, hostNames('a'))])),
    ],
    ['no name in the list', records(hello(extension(0, vector16([]))))],
    ['an empty name', records(hello(extension(0, hostNames(''))))],
    ['a zero in a name', records(named('a\0b'))],
    ['a dot at the end', records(named('a.example.'))],
    ['a wildcard', records(named('*.example'))],
    ['a name of 254 characters', records(named(['bb', ...Array(4).fill('a'.repeat(62))].join('.')))],
  ])('%s', (_name, bytes) => {
    expect(parseClientHello(bytes)).toMatchObject({ state: 'invalid' })
  })
})

function lengthened(message: number[]): number[] {
  const body = [...message.slice(4), 0]
  return [1, ...u24(body.length), ...body]
}

/** What Node says first to a server. */
async function helloOfNode(options: ConnectionOptions): Promise<Buffer> {
  const [near, far] = duplexPair()
  const socket = connectTls({ socket: near, ...options })
  socket.on('error', () => {})
  const [bytes] = (await once(far, 'data')) as [Buffer]
  socket.destroy()
  return bytes
}

test.each([
  ['TLS 1.3', { servername: 'chat.example' }, 'chat.example'],
  ['TLS 1.2', { servername: 'chat.example', maxVersion: 'TLSv1.2' as const }, 'chat.example'],
  ['ALPN', { servername: 'chat.example', ALPNProtocols: ['h2', 'http/1.1'] }, 'chat.example'],
  ['none', {}, null],
])('of a real client: %s', async (_name, options, serverName) => {
  const bytes = await helloOfNode(options)
  expect(parseClientHello(bytes)).toEqual({ state: 'done', serverName })
  for (let cut = 0; cut < bytes.length; cut++)
    expect(parseClientHello(bytes.subarray(0, cut))).toEqual({ state: 'more' })
})

test('is the same in any records, and waited for byte by byte', () => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/)
  const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'))
  const padding = fc.integer({ min: 0, max: 3_000 })
  fc.assert(
    fc.property(
      name,
      padding,
      fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 8 }),
      fc.nat(),
      (serverName, pad, sizes, at) => {
        const message = hello([...extension(21, Array(pad).fill(0)), ...extension(0, hostNames(serverName))])
        const bytes = records(message, sizes)
        const cut = at % bytes.length
        expect(parseClientHello(bytes.subarray(0, cut))).toEqual({ state: 'more' })
        expect(parseClientHello(Buffer.concat([bytes, Buffer.from('more')]))).toEqual({
          state: 'done',
          serverName,
        })
      },
    ),
    { seed, numRuns: 300 },
  )
})

test('anything is read or refused, and no more is asked for than the bound', () => {
  const sane = Buffer.from(records(named('a.example'), [20]))
  const changed = fc
    .tuple(fc.nat(sane.length - 1), fc.integer({ min: 0, max: 255 }))
    .map(([at, byte]) => Buffer.concat([sane.subarray(0, at), Buffer.of(byte), sane.subarray(at + 1)]))
  const tiny = fc
    .integer({ min: 1, max: 6_000 })
    .map((count) => Buffer.alloc(count * 6, Buffer.of(22, 3, 1, 0, 1, 1)))
  fc.assert(
    fc.property(fc.oneof(changed, tiny, fc.uint8Array({ maxLength: 300 })), (bytes) => {
      const parsed = parseClientHello(bytes)
      if (parsed.state === 'more') expect(bytes.length).toBeLessThan(clientHelloBytesMost)
      if (parsed.state === 'done' && parsed.serverName !== null)
        expect(parsed.serverName).toMatch(/^[a-z0-9._-]{1,253}$/)
    }),
    { seed, numRuns: 3_000 },
  )
})

test.each([
  ['a.example', 1],
  ['b.example', 2],
  ['x.y.example', 2],
  ['x.deep.example', 3],
  ['deep.example', 2],
  ['example', undefined],
  ['other', undefined],
  ['constructor', undefined],
])('%s leads to %s', (name, pool) => {
  expect(matchServerName({ 'a.example': 1, '*.example': 2, '*.deep.example': 3 }, name)).toBe(pool)
})
