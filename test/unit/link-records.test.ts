import { readFileSync } from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { type LinkRole, RecordType, readU32, recordName, writeU32 } from '../../src/protocol/link-records.ts'
import { decodeRecords, encodeRecord, type RecordKind, u32s, type WireRecord } from '../support/link-wire.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('link-records')
const payloadBytes = defaultLimits.linkMessageBytes

/** PROTOCOL.md §1.3, §1.4 and §1.13, with the least and the largest body. */
const kinds: [RecordKind, from: LinkRole | 'both', least: number, most: number][] = [
  ['hello', 'node', 2, 65_536],
  ['welcome', 'gateway', 2, 65_536],
  ['ping', 'both', 4, 4],
  ['pong', 'both', 4, 4],
  ['report', 'node', 2, 65_536],
  ['steer', 'gateway', 2, 65_536],
  ['drained', 'gateway', 0, 0],
  ['publish', 'node', 3, payloadBytes],
  ['subscribe', 'node', 1, 255],
  ['unsubscribe', 'node', 1, 255],
  ['published', 'gateway', 3, payloadBytes],
  ['seek', 'gateway', 2, 65_536],
  ['found', 'node', 2, 65_536],
  ['drop', 'gateway', 2, 65_536],
  ['cast', 'node', 8, payloadBytes],
  ['casted', 'gateway', 8, 8],
  ['tell', 'node', 3, payloadBytes],
  ['told', 'gateway', 3, payloadBytes],
  ['peers', 'gateway', 2, payloadBytes],
  ['open', 'gateway', 16, payloadBytes],
  ['prepare', 'gateway', 4, payloadBytes],
  ['ready', 'node', 0, 0],
  ['refused', 'node', 2, 65_536],
  ['quiesce', 'gateway', 4, 4],
  ['fin', 'node', 4, 4],
  ['activate', 'gateway', 12, payloadBytes],
  ['resume', 'gateway', 4, 4],
  ['release', 'gateway', 0, 0],
  ['keep', 'gateway', 2, 65_536],
  ['kept', 'node', 4, 4],
  ['tail', 'gateway', 4, payloadBytes],
  ['take', 'gateway', 9, 72],
  ['taken', 'node', 10, payloadBytes],
  ['lost', 'node', 0, 0],
  ['message', 'gateway', 4, payloadBytes],
  ['output', 'node', 4, payloadBytes],
  ['commit', 'node', 4, payloadBytes],
  ['credit', 'gateway', 4, 4],
  ['close', 'both', 2, 125],
  ['closed', 'node', 0, 0],
  ['join', 'node', 1, 255],
  ['leave', 'node', 1, 255],
  ['denied', 'gateway', 1, 255],
  ['acked', 'gateway', 4, 4],
  ['rooms', 'node', 2, 65_536],
  ['continued', 'node', 2, 65_536],
  ['key', 'gateway', 4, 259],
  ['run', 'gateway', 4, payloadBytes],
  ['emitted', 'gateway', 6, payloadBytes],
  ['stop', 'gateway', 4, 4],
  ['logged', 'gateway', 4, 4],
  ['append', 'node', 6, payloadBytes],
  ['end', 'node', 6, 65_536],
  ['attach', 'node', 2, 65_536],
  ['decline', 'node', 0, 0],
]
const roles = ['gateway', 'node'] as const
const isLinkRecord = (kind: RecordKind) =>
  RecordType[kind] < 0x10 || (RecordType[kind] >= 0x40 && RecordType[kind] < 0x50)
const comesFrom = (from: LinkRole | 'both', role: LinkRole) => from === role || from === 'both'

function validRecord(role: LinkRole): fc.Arbitrary<WireRecord> {
  const u32 = fc.nat(0xffff_ffff)
  return fc
    .constantFrom(...kinds.filter(([, from]) => comesFrom(from, role)))
    .chain(([kind, , least, most]) =>
      fc.record({
        type: fc.constant(RecordType[kind] as number),
        flags: fc.nat(255),
        session: isLinkRecord(kind) ? fc.constant(0) : fc.integer({ min: 1, max: 0xffff_ffff }),
        term: u32,
        body: fc
          .uint8Array({ minLength: least, maxLength: Math.min(most, least + 40) })
          .map((a) => Buffer.from(a)),
      }),
    )
}

const validBatch = fc
  .constantFrom(...roles)
  .chain((role) =>
    fc.record({ role: fc.constant(role), records: fc.array(validRecord(role), { maxLength: 8 }) }),
  )

function concat(records: readonly WireRecord[]): Buffer {
  return Buffer.concat(records.map((record) => encodeRecord(record.type, record)))
}

/** How many of the records end at or before `offset`. */
function wholeBefore(records: readonly WireRecord[], offset: number): number {
  let end = 0
  let whole = 0
  for (const { body } of records) {
    end += 14 + body.length
    if (end <= offset) whole++
  }
  return whole
}

function expectOnlyRecordInvalid(error: unknown): void {
  if (error === null) return
  expect(error).toBeInstanceOf(EvenkeelError)
  expect((error as EvenkeelError).code).toBe('RECORD_INVALID')
}

const check = (property: fc.IRawProperty<unknown>, numRuns: number) => fc.assert(property, { seed, numRuns })

test('type numbers, names and directions are those of PROTOCOL.md', () => {
  const text = readFileSync(path.resolve(import.meta.dirname, '../../PROTOCOL.md'), 'utf8')
  const rows = [...text.matchAll(/^\| (0x[\da-f]{2}) \| ([A-Z]+) \| (node|gateway|both)/gm)]
  const documented = rows.map(([, type, name, from]) => `${Number(type)} ${name} ${from}`)
  expect(documented).toEqual(kinds.map(([kind, from]) => `${RecordType[kind]} ${kind.toUpperCase()} ${from}`))
  expect(kinds.map(([kind]) => recordName(RecordType[kind]))).toEqual(
    kinds.map(([kind]) => kind.toUpperCase()),
  )
  expect(Object.keys(RecordType)).toHaveLength(kinds.length)
})

test.each(kinds)(
  '%s: direction, session and size of the body are checked at both bounds',
  (kind, from, least, most) => {
    const session = isLinkRecord(kind) ? 0 : 7
    const sender = from === 'both' ? 'node' : from
    const errorOf = (role: LinkRole, bodyBytes: number, number = session) =>
      decodeRecords(encodeRecord(kind, { session: number, body: Buffer.alloc(bodyBytes) }), role).error
    const name = kind.toUpperCase()
    for (const role of roles) {
      if (comesFrom(from, role)) expect(errorOf(role, least)).toBeNull()
      else expect(errorOf(role, least)).toMatchObject({ message: `${name} does not come from a ${role}` })
    }
    expect(errorOf(sender, most)).toBeNull()
    const bounds = `allowed are ${least} to ${most}`
    for (const bodyBytes of least === 0 ? [most + 1] : [least - 1, most + 1]) {
      expect(errorOf(sender, bodyBytes)).toMatchObject({
        message: `${name} has a body of ${bodyBytes} bytes, ${bounds}`,
      })
    }
    const other = session === 0 ? 7 : 0
    expect(errorOf(sender, least, other)).toMatchObject({ message: `${name} with session ${other}` })
  },
)

const ping = encodeRecord('ping', { body: u32s([1]) })
const lying = (length: number) => Buffer.concat([u32s([length]), ping.subarray(4)])

test.each<[string, Buffer, string]>([
  ['half a header', ping.subarray(0, 13), 'a record header needs 14 bytes, 13 are left'],
  ['one byte', Buffer.from([0]), 'a record header needs 14 bytes, 1 are left'],
  ['a body that is cut off', ping.subarray(0, 17), 'length 14 does not fit the message'],
  ['a length of 0', lying(0), 'length 0 does not fit the message'],
  ['a length below the header', lying(9), 'length 9 does not fit the message'],
  ['the largest length', lying(0xffff_ffff), 'length 4294967295 does not fit the message'],
  ['type 0', encodeRecord(0), 'unknown record type 0x00'],
  ['an unknown type', encodeRecord(0x7f, { session: 1 }), 'unknown record type 0x7f'],
  ['the largest type', encodeRecord(0xff), 'unknown record type 0xff'],
])('%s is refused, and what came before it stands', (_name, bad, message) => {
  const { records, error } = decodeRecords(
    Buffer.concat([ping, ping, bad, ping]).subarray(0, 36 + bad.length),
    'node',
  )
  expect(records.map(({ type }) => type)).toEqual([RecordType.ping, RecordType.ping])
  expect(error).toMatchObject({ code: 'RECORD_INVALID', message })
})

describe('properties', () => {
  test('any batch of valid records comes out as it went in', () => {
    const property = fc.property(validBatch, ({ role, records }) => {
      expect(decodeRecords(concat(records), role)).toEqual({ records, error: null })
    })
    check(property, 500)
  })

  test('garbage is refused and nothing else happens', () => {
    const property = fc.property(
      fc.constantFrom(...roles),
      fc.uint8Array({ maxLength: 400 }),
      (role, bytes) => {
        expectOnlyRecordInvalid(decodeRecords(Buffer.from(bytes), role).error)
      },
    )
    check(property, 3_000)
  })

  test('garbage behind plausible headers is refused and nothing else happens', () => {
    const header = fc.record({
      length: fc.oneof(fc.nat(64), fc.nat(0xffff_ffff)),
      type: fc.oneof(fc.constantFrom(...Object.values(RecordType)), fc.nat(255)),
      rest: fc.uint8Array({ minLength: 9, maxLength: 60 }),
    })
    const property = fc.property(fc.constantFrom(...roles), fc.array(header), (role, headers) => {
      const pieces = headers.map(({ length, type, rest }) =>
        Buffer.concat([u32s([length]), Buffer.from([type, ...rest])]),
      )
      expectOnlyRecordInvalid(decodeRecords(Buffer.concat(pieces), role).error)
    })
    check(property, 3_000)
  })

  test('a batch that is cut off gives exactly the records that are whole', () => {
    const property = fc.property(validBatch, fc.nat(), ({ role, records }, cut) => {
      const batch = concat(records)
      const at = batch.length === 0 ? 0 : cut % batch.length
      const { records: visited, error } = decodeRecords(batch.subarray(0, at), role)
      const whole = wholeBefore(records, at)
      expect(visited).toEqual(records.slice(0, whole))
      expectOnlyRecordInvalid(error)
      const isBoundary = at === concat(records.slice(0, whole)).length
      expect(error === null).toBe(isBoundary)
    })
    check(property, 1_000)
  })

  test('a flipped bit leaves the records before it as they were', () => {
    const property = fc.property(validBatch, fc.nat(), ({ role, records }, bit) => {
      const batch = concat(records)
      fc.pre(batch.length > 0)
      const at = bit % (batch.length * 8)
      batch[at >> 3]! ^= 1 << (at & 7)
      const { records: visited, error } = decodeRecords(batch, role)
      const untouched = wholeBefore(records, at >> 3)
      expect(visited.slice(0, untouched)).toEqual(records.slice(0, untouched))
      expectOnlyRecordInvalid(error)
    })
    check(property, 2_000)
  })

  test('numbers are those of Buffer', () => {
    const property = fc.property(fc.nat(0xffff_ffff), (value) => {
      const ours = Buffer.alloc(4)
      writeU32(ours, 0, value)
      expect(ours.readUInt32LE(0)).toBe(value)
      expect(readU32(ours, 0)).toBe(value)
    })
    check(property, 500)
  })
})
