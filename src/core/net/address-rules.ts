import { type Address, type Block, isInside, parseAddress, parseBlock } from './address.ts'

/**
 * Where a gateway may connect to on behalf of somebody else. Whoever can name an upstream could otherwise make the gateway
 * speak to what only this machine can reach.
 */
export interface AddressRules {
  /** null: every address that is not refused by its kind. A list never allows those either, but for loopback. */
  readonly allowed: readonly Block[] | null
  /** The operator of this machine wants loopback: it stands in the configuration, or is named as such. Counts without a list. */
  readonly loopback: boolean
}

type Kind = 'unspecified' | 'link-local' | 'metadata' | 'multicast' | 'reserved'

const never: readonly (readonly [Block, Kind])[] = (
  [
    ['169.254.169.254', 'metadata'],
    ['169.254.170.2', 'metadata'],
    ['100.100.100.200', 'metadata'],
    ['168.63.129.16', 'metadata'],
    ['fd00:ec2::/32', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['fd00:c1::a9fe:a9fe', 'metadata'],
    // On Linux 0.0.0.0 is this machine.
    ['0.0.0.0/8', 'unspecified'],
    ['::', 'unspecified'],
    ['169.254.0.0/16', 'link-local'],
    ['fe80::/10', 'link-local'],
    ['224.0.0.0/4', 'multicast'],
    ['ff00::/8', 'multicast'],
    ['240.0.0.0/4', 'reserved'],
  ] as const
).map(([text, kind]) => [block(text), kind])

const loopback = [block('127.0.0.0/8'), block('::1')]

/** IPv6 addresses behind which an IPv4 address is reached: NAT64, 6to4, and the deprecated "IPv4-compatible" form. */
const wrappers: readonly (readonly [Block, shift: bigint])[] = [
  [block('64:ff9b::/96'), 0n],
  [block('2002::/16'), 80n],
  [block('::/96'), 0n],
]

/** Why the address may not be dialled, or null when it may. */
export function refusalOfAddress(text: string, { allowed, loopback: mayLoop }: AddressRules): string | null {
  const address = parseAddress(text)
  if (address === null) return `${clip(text)} is no IP address`
  const meant = [address, ...wrapped(address)]
  for (const one of meant) {
    const kind = never.find(([refused]) => isInside(one, refused))?.[1]
    if (kind !== undefined) return `${text} is ${article(kind)} address`
  }
  if (allowed !== null) {
    return allowed.some((one) => isInside(address, one)) ? null : `${text} is not among the allowed addresses`
  }
  if (mayLoop || !meant.some(isLoopback)) return null
  return `${text} is a loopback address, which is allowed by the configuration only, or as a literal address`
}

/** `localhost` and its kin, or an address literal of loopback (IPv6 with brackets, as in a URL). */
export function namesLoopback(hostname: string): boolean {
  if (/^(?:.+\.)?localhost\.?$/i.test(hostname)) return true
  const address = parseAddress(hostname.replace(/^\[(.*)\]$/, '$1'))
  return address !== null && isLoopback(address)
}

function isLoopback(address: Address): boolean {
  return loopback.some((one) => isInside(address, one))
}

function wrapped(address: Address): Address[] {
  // `::1` is no IPv4 address in disguise, and `::` is judged as itself.
  if (address.value <= 1n) return []
  return wrappers.flatMap(([wrapper, shift]) =>
    isInside(address, wrapper) ? [{ family: 4 as const, value: (address.value >> shift) & 0xffffffffn }] : [],
  )
}

function article(kind: Kind): string {
  return /^[aeiou]/.test(kind) ? `an ${kind}` : `a ${kind}`
}

function clip(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 63)}…` : text)
}

function block(text: string): Block {
  const parsed = parseBlock(text)
  if (parsed === null) throw new RangeError(text)
  return parsed
}
