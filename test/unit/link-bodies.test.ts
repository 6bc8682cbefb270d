import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import {
  isWeight,
  parseDrop,
  parseFound,
  parseHello,
  parseKeep,
  parseRefusal,
  parseReport,
  parseSeek,
  parseSteer,
  parseTakenInfo,
  parseWelcome,
} from '../../src/protocol/link-records.ts'
import { json } from '../support/link-wire.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('link-bodies')
const name = '1 to 64 of A-Z a-z 0-9 . _ : -'

const hello = {
  protocol: 1,
  id: 'chat-1',
  instance: 'abcdefgh',
  pool: 'default',
  weight: 1,
  maxSessions: null,
  host: 'host-a',
  pid: 42,
  version: '',
}
const welcome = {
  protocol: 1,
  gateway: 'gw',
  instance: 'abcdefgh',
  resumeMs: 120_000,
  limits: { messageBytes: 1, stateBytes: 1, clientBufferBytes: 1 },
  heartbeatMs: 2_000,
  suspectMs: 4_000,
  downMs: 6_000,
}

const hash = 'h'.repeat(43)
const seek = { seek: 1, session: 's-1', token: hash, next: hash }
const found = { seek: 1, term: 7, live: true, reason: null }
const keep = { version: 1, tokens: [hash], out: 0, channels: ['room:1'] }
const taken = { meta: { id: 's-1' }, channels: ['room:1'] }

type Parse = (body: Buffer) => unknown

function expectInvalid(parse: Parse, body: Buffer, message: string): void {
  let thrown: unknown
  try {
    parse(body)
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(EvenkeelError)
  expect(thrown).toMatchObject({ code: 'RECORD_INVALID', message })
}

function without(value: object, key: string): object {
  return Object.fromEntries(Object.entries(value).filter(([other]) => other !== key))
}

describe('HELLO', () => {
  test.each([
    {},
    { id: 'a', pool: 'A.b_c:d-9', instance: 'x'.repeat(64) },
    { id: 'a'.repeat(64) },
    { weight: 0.001 },
    { weight: 1_000_000 },
    { maxSessions: 1 },
    { protocol: 2 },
    { host: '', pid: 0, version: 'v'.repeat(64) },
    { migrate: 'always' },
    { migrate: 'drain' },
  ])('%j is good', (change) => {
    const value = { ...hello, ...change }
    expect(parseHello(json({ ...value, unknown: true }))).toEqual(value)
  })

  test.each<[string, unknown, string]>([
    ['protocol', '1', 'HELLO.protocol must be a number'],
    ['protocol', null, 'HELLO.protocol must be a number'],
    ['id', '', `HELLO.id must be ${name}`],
    ['id', 'a'.repeat(65), `HELLO.id must be ${name}`],
    ['id', 'a b', `HELLO.id must be ${name}`],
    ['id', 'a\n', `HELLO.id must be ${name}`],
    ['id', 'ä', `HELLO.id must be ${name}`],
    ['id', '../x', `HELLO.id must be ${name}`],
    ['id', 7, `HELLO.id must be ${name}`],
    ['id', ['a'], `HELLO.id must be ${name}`],
    ['instance', 'abcdefg', 'HELLO.instance must be 8 to 64 of A-Z a-z 0-9 . _ : -'],
    ['instance', 'a'.repeat(65), 'HELLO.instance must be 8 to 64 of A-Z a-z 0-9 . _ : -'],
    ['instance', 12345678, 'HELLO.instance must be 8 to 64 of A-Z a-z 0-9 . _ : -'],
    ['pool', '', `HELLO.pool must be ${name}`],
    ['pool', null, `HELLO.pool must be ${name}`],
    ['weight', 0, 'HELLO.weight must be above 0, at most 1000000'],
    ['weight', -1, 'HELLO.weight must be above 0, at most 1000000'],
    ['weight', Number.NaN, 'HELLO.weight must be above 0, at most 1000000'],
    ['weight', 1e7, 'HELLO.weight must be above 0, at most 1000000'],
    ['weight', '1', 'HELLO.weight must be above 0, at most 1000000'],
    ['maxSessions', 0, 'HELLO.maxSessions must be null or a whole number from 1'],
    ['maxSessions', -1, 'HELLO.maxSessions must be null or a whole number from 1'],
    ['maxSessions', 1.5, 'HELLO.maxSessions must be null or a whole number from 1'],
    ['maxSessions', 1e300, 'HELLO.maxSessions must be null or a whole number from 1'],
    ['host', 7, 'HELLO.host must be a string of at most 255 characters'],
    ['host', 'h'.repeat(256), 'HELLO.host must be a string of at most 255 characters'],
    ['pid', -1, 'HELLO.pid must be a whole number'],
    ['pid', '42', 'HELLO.pid must be a whole number'],
    ['version', null, 'HELLO.version must be a string of at most 64 characters'],
    ['version', 'v'.repeat(65), 'HELLO.version must be a string of at most 64 characters'],
    ['migrate', 'never', 'HELLO.migrate must be one of always, drain'],
    ['migrate', null, 'HELLO.migrate must be one of always, drain'],
  ])('%s = %j is refused', (field, value, message) => {
    expectInvalid(parseHello, json({ ...hello, [field]: value }), message)
  })

  test.each(Object.keys(hello))('without %s it is refused, and the reason names the field', (field) => {
    expect(() => parseHello(json(without(hello, field)))).toThrow(`HELLO.${field} must be`)
  })
})

const report = { gateways: { g: 3 }, eventLoopLagMs: 0.25, weight: 1, drain: null, steered: 0 }

describe('REPORT, REFUSED, WELCOME', () => {
  test('good ones', () => {
    expect(parseReport(json(report))).toEqual(report)
    const draining = { ...report, drain: { deadlineMs: 5, ratePerSecond: null } }
    expect(parseReport(json(draining))).toEqual(draining)
    expect(parseRefusal(json({ code: 'FULL', message: 'no room' }))).toEqual({
      code: 'FULL',
      message: 'no room',
    })
    expect(parseRefusal(json({ code: 'STALE' }))).toEqual({ code: 'STALE', message: '' })
    expect(parseWelcome(json(welcome))).toEqual(welcome)
  })

  test.each([
    [{ ...report, gateways: { g: -1 } }, 'REPORT.gateways must be an object of whole numbers'],
    [{ ...report, gateways: { g: 1.5 } }, 'REPORT.gateways must be an object of whole numbers'],
    [{ ...report, gateways: undefined }, 'REPORT.gateways must be an object of whole numbers'],
    [{ ...report, eventLoopLagMs: undefined }, 'REPORT.eventLoopLagMs must be 0 or more'],
    [{ ...report, eventLoopLagMs: -0.1 }, 'REPORT.eventLoopLagMs must be 0 or more'],
    [{ ...report, eventLoopLagMs: '0' }, 'REPORT.eventLoopLagMs must be 0 or more'],
    [{ ...report, weight: 0 }, 'REPORT.weight must be above 0, at most 1000000'],
    [
      { ...report, drain: 1 },
      'REPORT.drain must be null or {deadlineMs, ratePerSecond}, each null or a whole number',
    ],
    [
      { ...report, drain: { deadlineMs: -1, ratePerSecond: null } },
      'REPORT.drain must be null or {deadlineMs, ratePerSecond}, each null or a whole number',
    ],
    [{ ...report, steered: null }, 'REPORT.steered must be a whole number'],
  ])('REPORT %j is refused', (value, message) => {
    expectInvalid(parseReport, json(value), message)
  })

  test.each([{}, { code: 'full' }, { code: 7 }, { message: 'FULL' }])('REFUSED %j is refused', (value) => {
    expectInvalid(parseRefusal, json(value), 'REFUSED.code must be one of FULL, DRAINING, STALE, GAP, VETO')
  })

  test.each([
    ...Object.keys(welcome).map((key) => without(welcome, key)),
    ...Object.keys(welcome.limits).map((key) => ({ ...welcome, limits: without(welcome.limits, key) })),
    { ...welcome, downMs: 0 },
    { ...welcome, limits: 7 },
    { ...welcome, limits: null },
  ])('WELCOME %j is refused', (value) => {
    expectInvalid(parseWelcome, json(value), 'WELCOME lacks a field')
  })
})

describe('resume', () => {
  test('what is right is taken, and nothing else', () => {
    expect(parseSeek(json({ ...seek, more: 1 }))).toEqual(seek)
    expect(parseFound(json(found))).toEqual(found)
    expect(parseFound(json({ seek: 1, term: 0, reason: 'token' }))).toEqual({
      seek: 1,
      term: 0,
      live: false,
      reason: 'token',
    })
    expect(parseFound(json({ ...found, reason: 'why not' }))).toEqual(found)
    expect(parseDrop(json({ session: 's', term: 3 }))).toEqual({ session: 's', term: 3 })
    expect(parseKeep(json(keep))).toEqual(keep)
    expect(parseKeep(json({ ...keep, tokens: [hash, hash], channels: null })).channels).toBeNull()
    expect(parseTakenInfo(json(taken))).toEqual({ ...taken, received: 0, keys: [] })
    const keyed = { ...taken, received: 3, keys: [['k', 2]] }
    expect(parseTakenInfo(json(keyed))).toEqual(keyed)
    const gap = { code: 'GAP', message: '', out: 7 }
    expect(parseRefusal(json(gap))).toEqual(gap)
  })

  test.each([
    [parseSeek, { ...seek, seek: 0 }, 'SEEK.seek must be a whole number from 1'],
    [parseSeek, { ...seek, session: 'a b' }, 'SEEK.session must be a session id'],
    [parseSeek, { ...seek, session: 's'.repeat(65) }, 'SEEK.session must be a session id'],
    [parseSeek, { ...seek, token: hash.slice(1) }, 'SEEK.token and SEEK.next must be hashes'],
    [parseSeek, { ...seek, next: undefined }, 'SEEK.token and SEEK.next must be hashes'],
    [parseFound, { ...found, seek: -1 }, 'FOUND.seek must be a whole number from 1'],
    [parseFound, { ...found, term: 1.5 }, 'FOUND.term must be a whole number'],
    [parseDrop, { session: '', term: 1 }, 'DROP must be {session, term}'],
    [parseDrop, { session: 's' }, 'DROP must be {session, term}'],
    [parseKeep, { ...keep, version: 0 }, 'KEEP.version and KEEP.out must be whole numbers'],
    [parseKeep, { ...keep, tokens: [] }, 'KEEP.tokens must be one or two hashes'],
    [parseKeep, { ...keep, tokens: [hash, hash, hash] }, 'KEEP.tokens must be one or two hashes'],
    [parseKeep, { ...keep, tokens: ['short'] }, 'KEEP.tokens must be one or two hashes'],
    [parseKeep, { ...keep, channels: ['$plans'] }, 'KEEP.channels must be null or names'],
    [parseTakenInfo, { ...taken, channels: [''] }, 'TAKEN.channels must be names'],
    [parseTakenInfo, { ...taken, received: -1 }, 'TAKEN.received must be a whole number'],
    [parseTakenInfo, { ...taken, keys: [['k', 0]] }, 'TAKEN.keys must be [[key, number], …]'],
    [parseTakenInfo, { ...taken, keys: [7] }, 'TAKEN.keys must be [[key, number], …]'],
    [parseTakenInfo, { ...taken, meta: null }, "TAKEN.meta must be a session's meta"],
  ])('%o %j is refused', (parse, value, message) => {
    expectInvalid(parse, json(value), message)
  })
})

describe('bodies that are no JSON object', () => {
  const parsers: [string, Parse][] = [
    ['HELLO', parseHello],
    ['REPORT', parseReport],
    ['REFUSED', parseRefusal],
    ['WELCOME', parseWelcome],
    ['SEEK', parseSeek],
    ['FOUND', parseFound],
    ['DROP', parseDrop],
    ['KEEP', parseKeep],
    ['TAKEN', parseTakenInfo],
  ]

  test.each(parsers)('%s', (kind, parse) => {
    for (const text of ['', '{', '{"id":', "{'id':1}", '\u0000', 'undefined', 'NaN'])
      expectInvalid(parse, Buffer.from(text), `${kind} is not JSON`)
    expectInvalid(parse, Buffer.from([0xff, 0xfe, 0x00]), `${kind} is not JSON`)
    for (const text of ['null', '[]', '7', '"x"', 'true', '[{}]'])
      expectInvalid(parse, Buffer.from(text), `${kind} must be a JSON object`)
  })

  test.each(parsers)('%s: whatever comes, it is parsed or RECORD_INVALID', (_kind, parse) => {
    const object = fc.dictionary(
      fc.constantFrom(...[hello, welcome, seek, found, keep, taken].flatMap(Object.keys)),
      fc.jsonValue(),
    )
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.jsonValue().map(json),
      object.map((changes) => json({ ...hello, ...changes })),
      object.map((changes) => json({ ...welcome, ...changes })),
      object.map((changes) => json({ ...seek, ...found, ...keep, ...taken, ...changes })),
    )
    const property = fc.property(body, (bytes) => {
      try {
        parse(bytes)
      } catch (error) {
        expect(error).toBeInstanceOf(EvenkeelError)
        expect((error as EvenkeelError).code).toBe('RECORD_INVALID')
      }
    })
    fc.assert(property, { seed, numRuns: 500 })
  })
})

test('a weight is a number above 0, at most 1,000,000', () => {
  expect([1e-9, 1, 1e6].map(isWeight)).toEqual([true, true, true])
  const bad = [0, -0, -1, 1e6 + 1, Number.NaN, Number.POSITIVE_INFINITY, '1', null, undefined, {}, 1n]
  expect(bad.map(isWeight)).toEqual(bad.map(() => false))
})

test('what a node keeps for its gateways is a text that is not too long, in STEER and in REPORT', () => {
  const report = { gateways: {}, eventLoopLagMs: 0, weight: 1, drain: null, steered: 0 }
  const most = 'x'.repeat(2_048)
  expect(parseSteer(json({ canary: most }))).toEqual({ canary: most })
  expect(parseReport(json({ ...report, canary: '' }))).toEqual({ ...report, canary: '' })
  expect(parseReport(json(report))).toEqual(report)
  for (const canary of [`${most}x`, 3, null, {}]) {
    const rule = 'canary must be a string of at most 2048 characters'
    expectInvalid(parseSteer, json({ canary }), `STEER.${rule}`)
    expectInvalid(parseReport, json({ ...report, canary }), `REPORT.${rule}`)
  }
})
