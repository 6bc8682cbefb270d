import type { Random } from '../../support/random.ts'

/** What parsers stumble over. */
const morsels = [
  '\0',
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  '\t',
  '\x1e',
  '\ud800',
  'é🌊',
  '%00',
  '%zz',
  '..',
  '//',
  '?',
  '#',
  '"',
  '\\',
  '\\u0000',
  '{',
  '}',
  '[',
  '[[[[[[[[',
  ']',
  ',',
  ':',
  'null',
  'true',
  '-1',
  '0',
  '1e999',
  '9007199254740993',
  '4294967296',
  '__proto__',
  'constructor',
  'toString',
  'x'.repeat(300),
] as const

/** A few small changes to a valid sample; `others` are what pieces are taken from. */
export function mutate(random: Random, sample: Buffer, others: readonly Buffer[]): Buffer {
  let result: Buffer = Buffer.from(sample)
  for (let left = random.int(1, 4); left > 0; left--) result = change(random, result, others)
  return result
}

export function mutateText(random: Random, sample: string, others: readonly string[]): string {
  return mutate(
    random,
    Buffer.from(sample),
    others.map((text) => Buffer.from(text)),
  ).toString()
}

function change(random: Random, bytes: Buffer, others: readonly Buffer[]): Buffer {
  const at = random.int(0, bytes.length)
  const end = Math.min(bytes.length, at + random.int(1, 12))
  switch (random.int(0, 8)) {
    case 0:
      return splice(bytes, at, end, Buffer.alloc(0))
    case 1:
      return splice(bytes, at, at, Buffer.from(random.pick(morsels)))
    case 2:
      return splice(bytes, at, end, Buffer.from(random.pick(morsels)))
    case 3:
      return splice(bytes, at, at, bytes.subarray(at, end))
    case 4:
      return bytes.subarray(0, at)
    case 5: {
      const other = random.pick(others)
      const from = random.int(0, other.length)
      return splice(bytes, at, end, other.subarray(from, from + random.int(1, 40)))
    }
    case 6:
      return splice(bytes, at, at, Buffer.alloc(random.int(1, 200), random.int(0, 255)))
    default: {
      if (bytes.length === 0) return bytes
      const flipped = Buffer.from(bytes)
      flipped[Math.min(at, bytes.length - 1)]! ^= 1 << random.int(0, 7)
      return flipped
    }
  }
}

function splice(bytes: Buffer, from: number, to: number, piece: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, from), piece, bytes.subarray(to)])
}
