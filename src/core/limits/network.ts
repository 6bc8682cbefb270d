import { type Address, type Block, isInside, parseAddress } from '../net/address.ts'

const hostBits = 64n

/** What is counted as one client: an IPv4 address, or the /64 that one IPv6 host can choose its addresses from. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address
  const parsed = parseAddress(address.split('%', 1)[0]!)
  if (parsed === null) return address
  return parsed.family === 4 ? `4:${parsed.value}` : `6:${parsed.value >> hostBits}`
}

/** Whether the address is in one of the blocks. What is no address is in none. */
export function isListed(address: string, blocks: readonly Block[]): boolean {
  if (blocks.length === 0) return false
  const parsed: Address | null = parseAddress(address.split('%', 1)[0]!)
  return parsed !== null && blocks.some((block) => isInside(parsed, block))
}
