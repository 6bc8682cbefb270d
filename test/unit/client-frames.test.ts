import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type ChannelMessage,
  ClientFrame,
  type ClientHello,
  type ClientWelcome,
  encodeChannelMessage,
  encodeClientHello,
  encodeClientWelcome,
  encodeCount,
  encodePayload,
  encodeVerdict,
  helloBytes,
  parseChannelMessage,
  parseClientHello,
  parseClientWelcome,
  parseCount,
  parseVerdict,
  payloadOf,
} from '../../src/protocol/client-frames.ts'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import { isChannelName } from '../../src/protocol/names.ts'
import { isLongerThan } from '../../src/protocol/utf8.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('client frames')
const token = 'T'.repeat(43)
const resume = { session: 'abc', token, out: 7, channels: { 'room:1': '5-12', 'room:2': null } }
const welcome: ClientWelcome = {
  session: 'abc',
  token,
  recovered: true,
  reason: null,
  ack: 3,
  last: 5,
  out: 7,
  resumeMs: 120_000,
  retryMs: 0,
  messageBytes: 1_048_576,
}

/** Throws what the parser threw, which must be BAD_REQUEST. */
function complaint(parse: () => unknown): string {
  try {
    parse()
  } catch (error) {
    if (error instanceof EvenkeelError && error.code === 'BAD_REQUEST') return error.message
    throw error
  }
  return 'none'
}

test('the first characters are those of PROTOCOL.md §2.1', () => {
  expect(
    String.fromCharCode(...Object.values(ClientFrame))
      .split('')
      .sort(),
  ).toEqual([...'abchijlmoprvw'])
})

describe('hello', () => {
  test('a new session, and one to be resumed', () => {
    expect(encodeClientHello({})).toBe('h{}')
    expect(parseClientHello('h{}')).toEqual({})
    expect(parseClientHello(encodeClientHello({ resume }))).toEqual({ resume })
    expect(parseClientHello('h{"later":1}')).toEqual({})
  })

  test('channels may be called as the properties of an object', () => {
    const frame = `h{"resume":{"session":"a","token":"${token}","out":0,"channels":{"__proto__":"1-1","toString":null}}}`
    const { channels } = parseClientHello(frame).resume!
    expect(Object.entries(channels)).toEqual([
      ['__proto__', '1-1'],
      ['toString', null],
    ])
    expect(channels.constructor).toBeUndefined()
  })

  test.each<[string, string]>([
    ['h', 'hello must be a JSON object'],
    ['h{', 'hello must be a JSON object'],
    ['h[]', 'hello must be a JSON object'],
    ['hnull', 'hello must be a JSON object'],
    ['h{"resume":null}', 'hello.resume must be an object'],
    ['h{"resume":[]}', 'hello.resume must be an object'],
    [`h${' '.repeat(helloBytes)}`, 'hello is longer than 131072 bytes'],
    [`h"${'€'.repeat(helloBytes / 3)}"`, 'hello is longer than 131072 bytes'],
  ])('%.20s: %s', (frame, message) => {
    expect(complaint(() => parseClientHello(frame))).toBe(message)
  })

  const many = Object.fromEntries(Array.from({ length: 129 }, (_, n) => [`room:${n}`, null]))
  test.each<[Partial<Record<keyof typeof resume, unknown>>, string]>([
    [{ session: undefined }, 'hello.resume.session must be 1 to 64 of A-Z a-z 0-9 _ -'],
    [{ session: 'a b' }, 'hello.resume.session must be 1 to 64 of A-Z a-z 0-9 _ -'],
    [{ session: 's'.repeat(65) }, 'hello.resume.session must be 1 to 64 of A-Z a-z 0-9 _ -'],
    [{ token: `${token}T` }, 'hello.resume.token must be 43 characters of base64url'],
    [{ token: `${token.slice(1)}=` }, 'hello.resume.token must be 43 characters of base64url'],
    [{ token: 1 }, 'hello.resume.token must be 43 characters of base64url'],
    [{ out: -1 }, 'hello.resume.out must be a whole number'],
    [{ out: 1.5 }, 'hello.resume.out must be a whole number'],
    [{ out: '1' }, 'hello.resume.out must be a whole number'],
    [{ channels: undefined }, 'hello.resume.channels must be an object'],
    [{ channels: ['room'] }, 'hello.resume.channels must be an object'],
    [{ channels: many }, 'hello.resume.channels names more than 128 channels'],
    [
      { channels: { $plans: null } },
      'hello.resume.channels: a channel name has 1 to 255 bytes, no control characters and no $ in front',
    ],
    [{ channels: { room: 1 } }, 'hello.resume.channels must hold positions or null'],
    [{ channels: { room: '' } }, 'hello.resume.channels must hold positions or null'],
    [{ channels: { room: '1'.repeat(65) } }, 'hello.resume.channels must hold positions or null'],
  ])('resume with %.40j: %s', (change, message) => {
    const hello = { resume: { ...resume, ...change } } as ClientHello
    expect(complaint(() => parseClientHello(encodeClientHello(hello)))).toBe(message)
  })
})

describe('welcome', () => {
  test.each<Partial<ClientWelcome>>([
    {},
    { recovered: null, ack: 0, last: 0, out: 0 },
    { recovered: false, reason: 'gap' },
  ])('%j', (change) => {
    expect(parseClientWelcome(encodeClientWelcome({ ...welcome, ...change }))).toEqual({
      ...welcome,
      ...change,
    })
  })

  test.each<[Partial<Record<keyof ClientWelcome, unknown>>, string]>([
    [{ session: '' }, 'welcome.session is missing or not allowed'],
    [{ token: 'short' }, 'welcome.token is missing or not allowed'],
    [{ recovered: 'yes' }, 'welcome.recovered is missing or not allowed'],
    [{ recovered: undefined }, 'welcome.recovered is missing or not allowed'],
    [{ recovered: false, reason: 'tired' }, 'welcome.reason is missing or not allowed'],
    [{ recovered: false }, 'welcome.reason must say why recovered is false'],
    [{ reason: 'gap' }, 'welcome.reason must say why recovered is false'],
    [{ ack: -1 }, 'welcome.ack is missing or not allowed'],
    [{ ack: 6 }, 'welcome.last must not be below ack'],
    [{ last: null }, 'welcome.last is missing or not allowed'],
    [{ out: 2 ** 53 }, 'welcome.out is missing or not allowed'],
    [{ resumeMs: -1 }, 'welcome.resumeMs is missing or not allowed'],
    [{ retryMs: 2 ** 31 }, 'welcome.retryMs is missing or not allowed'],
    [{ messageBytes: 0 }, 'welcome.messageBytes is missing or not allowed'],
  ])('with %j: %s', (change, message) => {
    const frame = encodeClientWelcome({ ...welcome, ...change } as ClientWelcome)
    expect(complaint(() => parseClientWelcome(frame))).toBe(message)
  })

  test('a token is in no message of an error', () => {
    const frame = encodeClientWelcome(welcome)
    for (let end = 1; end < frame.length; end++)
      expect(complaint(() => parseClientWelcome(frame.slice(0, end)))).not.toContain('TTT')
  })
})

describe('verdict', () => {
  test.each([
    { channel: 'room:1', verdict: 'joined', position: '5-12' },
    { channel: 'Straße', verdict: 'continuous', position: null },
    { channel: '"', verdict: 'gap', position: '5-13' },
  ] as const)('%j', (verdict) => {
    expect(parseVerdict(encodeVerdict(verdict))).toEqual(verdict)
  })

  test.each([
    ['v1', 'verdict must be a JSON object'],
    ['v{"channel":"\\u0000"}', 'verdict.channel is missing or not allowed'],
    ['v{"channel":"a","verdict":"lost"}', 'verdict.verdict is missing or not allowed'],
    ['v{"channel":"a","verdict":"gap"}', 'verdict.position is missing or not allowed'],
    ['v{"channel":"a","verdict":"gap","position":""}', 'verdict.position is missing or not allowed'],
  ])('%s: %s', (frame, message) => {
    expect(complaint(() => parseVerdict(frame))).toBe(message)
  })
})

describe('count', () => {
  test.each([0, 1, 10, 4_294_967_296, Number.MAX_SAFE_INTEGER])('%d', (count) => {
    expect(parseCount(encodeCount(count))).toBe(count)
  })

  test.each([
    'a',
    'a-1',
    'a01',
    'a1.0',
    'a 1',
    'a1 ',
    'a1e3',
    'a١',
    'a1\n',
    'a9007199254740992',
    `a${'9'.repeat(16)}`,
  ])('not %j', (frame) => {
    expect(complaint(() => parseCount(frame))).toBe('a must be followed by a whole number')
  })
})

describe('payloads', () => {
  const payloads = fc.oneof(fc.string({ unit: 'binary' }), fc.uint8Array())

  test('text stays text and bytes stay bytes', () => {
    expect(encodePayload(ClientFrame.message, 'hé')).toBe('mhé')
    expect(encodePayload(ClientFrame.late, new Uint8Array([0, 255]))).toEqual(new Uint8Array([0x6c, 0, 255]))
    const property = fc.property(payloads, (data) => {
      expect(payloadOf(encodePayload(ClientFrame.message, data))).toEqual(data)
    })
    fc.assert(property, { seed })
  })

  test('a binary frame is a copy', () => {
    const data = new Uint8Array([1, 2])
    const frame = encodePayload(ClientFrame.message, data)
    data.fill(9)
    expect(payloadOf(frame)).toEqual(new Uint8Array([1, 2]))
  })

  test('a message of a channel comes back whole', () => {
    const channels = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }).filter(isChannelName)
    const positions = fc.option(fc.stringMatching(/^[0-9]{1,19}-[0-9]{1,15}$/))
    const messages = fc.record<ChannelMessage>({ channel: channels, position: positions, data: payloads })
    const property = fc.property(messages, (message) => {
      expect(parseChannelMessage(encodeChannelMessage(message))).toEqual(message)
    })
    fc.assert(property, { seed })
  })

  test('a name may begin as files with a byte order mark do', () => {
    const message = { channel: '\ufeffa', position: null, data: new Uint8Array([1]) }
    expect(parseChannelMessage(encodeChannelMessage(message))).toEqual(message)
  })

  const shape = 'c must be followed by channel, position and payload'
  const nameRule = 'c must be followed by the name of a channel'
  test.each<[string, string]>([
    ['c', shape],
    ['croom', shape],
    ['croom\n1-1', shape],
    [`c${'a'.repeat(256)}\n\nx`, shape],
    [`ca\n${'1'.repeat(65)}\nx`, shape],
    ['c\n\nx', nameRule],
    ['c$plans\n\nx', nameRule],
    ['ca\rb\n\nx', nameRule],
  ])('%.12j: %s', (frame, message) => {
    expect(complaint(() => parseChannelMessage(frame))).toBe(message)
    expect(complaint(() => parseChannelMessage(new TextEncoder().encode(frame)))).toBe(message)
  })
})

test('no parser throws anything but BAD_REQUEST, whatever it gets', () => {
  const parsers = [parseClientHello, parseClientWelcome, parseVerdict, parseCount, parseChannelMessage]
  const bodies = fc.oneof(fc.string({ unit: 'binary' }), fc.json())
  const property = fc.property(
    fc.constantFrom(...parsers),
    fc.constantFrom(...'hwvac'),
    bodies,
    (parse, head, body) => {
      complaint(() => parse(head + body))
    },
  )
  fc.assert(property, { seed, numRuns: 2_000 })
})

test('bytes are counted as UTF-8 has them', () => {
  const property = fc.property(fc.string({ unit: 'binary' }), fc.nat(40), (text, bytes) => {
    expect(isLongerThan(text, bytes)).toBe(Buffer.byteLength(text) > bytes)
  })
  fc.assert(property, { seed })
})
