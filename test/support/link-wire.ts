import {
  type LinkRole,
  RecordType,
  visitRecords,
  writeRecordHeader,
} from '../../src/protocol/link-records.ts'

/** A record on its own, with a body of its own. */
export interface WireRecord {
  readonly type: number
  readonly flags: number
  readonly session: number
  readonly term: number
  readonly body: Buffer
}

export type RecordKind = keyof typeof RecordType

const headerBytes = 14

/** The bytes of one record. What is left out is 0 or empty. */
export function encodeRecord(kind: RecordKind | number, fields: Partial<WireRecord> = {}): Buffer {
  const { flags = 0, session = 0, term = 0, body = Buffer.alloc(0) } = fields
  const bytes = Buffer.alloc(headerBytes + body.length)
  const type = typeof kind === 'number' ? kind : RecordType[kind]
  writeRecordHeader(bytes, 0, body.length, type, flags, session, term)
  body.copy(bytes, headerBytes)
  return bytes
}

/** All records that were visited, and what `visitRecords` threw after them. */
export function decodeRecords(batch: Buffer, from: LinkRole): { records: WireRecord[]; error: unknown } {
  const records: WireRecord[] = []
  try {
    visitRecords(batch, from, (type, flags, session, term, source, start, end) => {
      if (source !== batch || start > end || end > batch.length)
        throw new Error('a body outside of its batch')
      records.push({ type, flags, session, term, body: Buffer.from(source.subarray(start, end)) })
    })
    return { records, error: null }
  } catch (error) {
    return { records, error }
  }
}

/** Unsigned 32-bit numbers, little-endian, then what follows them. */
export function u32s(numbers: readonly number[], rest: string | Buffer = ''): Buffer {
  const head = Buffer.alloc(numbers.length * 4)
  for (const [i, value] of numbers.entries()) head.writeUInt32LE(value, i * 4)
  return Buffer.concat([head, Buffer.from(rest as string)])
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
