/** An IP address as a number. IPv4 inside of IPv6 (`::ffff:0:0/96`) is IPv4, for that is what the kernel dials. */
export interface Address {
  readonly family: 4 | 6
  readonly value: bigint
}

/** All addresses whose first `bits` bits are those of `value`. */
export interface Block extends Address {
  readonly bits: number
}

/** What `parseBlock` takes, roughly. */
export const blockPattern = /^[0-9A-Fa-f.:]{2,45}(?:\/\d{1,3})?$/

const mappedPrefix = 0xffffn

/** IPv4 as four decimal numbers, or IPv6 without a zone; null for anything else. */
export function parseAddress(text: string): Address | null {
  const v4 = parseV4(text)
  if (v4 !== null) return { family: 4, value: v4 }
  const v6 = parseV6(text)
  if (v6 === null) return null
  return v6 >> 32n === mappedPrefix ? { family: 4, value: v6 & 0xffffffffn } : { family: 6, value: v6 }
}

/** `10.0.0.0/8`, `fd00::/8`, or one address; null for anything else. Bits behind the prefix do not count. */
export function parseBlock(text: string): Block | null {
  const [, host = '', length] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const address = parseAddress(host)
  if (address === null) return null
  const width = address.family === 4 ? 32 : 128
  // A length of a mapped address is one of IPv6.
  const mapped = address.family === 4 && host.includes(':')
  const bits = length === undefined ? width : Number(length) - (mapped ? 96 : 0)
  return bits >= 0 && bits <= width ? { ...address, bits } : null
}

/** As RFC 5952 says: lower case, no leading zeros, the longest run of zeros as `::`. */
export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.')
  const groups = Array.from({ length: 8 }, (_, index) =>
    Number((value >> BigInt(112 - 16 * index)) & 0xffffn),
  )
  let best = { at: -1, length: 1 }
  for (let at = 0; at < 8; at++) {
    let length = 0
    while (groups[at + length] === 0) length++
    // A single group of zeros is written out.
    if (length > best.length) best = { at, length }
  }
  const text = (from: number, to?: number) =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':')
  return best.at === -1 ? text(0) : `${text(0, best.at)}::${text(best.at + best.length)}`
}

export function isInside({ family, value }: Address, block: Block): boolean {
  if (family !== block.family) return false
  const shift = BigInt((family === 4 ? 32 : 128) - block.bits)
  return value >> shift === block.value >> shift
}

function parseV4(text: string): bigint | null {
  const parts = text.split('.')
  if (parts.length !== 4) return null
  let value = 0n
  for (const part of parts) {
    // No leading zero: some programs read it as octal.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null
    value = (value << 8n) | BigInt(part)
  }
  return value
}

function parseV6(text: string): bigint | null {
  const halves = text.split('::')
  if (halves.length > 2) return null
  const head = groupsOf(halves[0]!, halves.length === 1)
  const tail = halves.length === 2 ? groupsOf(halves[1]!, true) : []
  if (head === null || tail === null) return null
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null
  return [...head, ...Array<number>(missing).fill(0), ...tail].reduce(
    (value, group) => (value << 16n) | BigInt(group),
    0n,
  )
}

/** The 16-bit groups of a part of an IPv6 address; its end may be an IPv4 address. */
function groupsOf(text: string, isEnd: boolean): number[] | null {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [index, part] of parts.entries()) {
    if (/^[0-9A-Fa-f]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16))
      continue
    }
    const v4 = isEnd && index === parts.length - 1 ? parseV4(part) : null
    if (v4 === null) return null
    groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn))
  }
  return groups
}
