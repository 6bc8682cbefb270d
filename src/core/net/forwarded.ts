import { type Block, isInside, parseAddress } from './address.ts'

/** Which of the two families of headers is believed; `any`: X-Forwarded-For when it is there, else Forwarded. */
export type ForwardedHeader = 'any' | 'forwarded' | 'x-forwarded'

export interface TrustRules {
  /** Proxies whose word counts. */
  readonly proxies: readonly Block[]
  readonly header: ForwardedHeader
}

/** What a request says of those that it has come through; '' where it says nothing. */
export interface ForwardedHeaders {
  readonly forwarded: string
  readonly xForwardedFor: string
  readonly xForwardedProto: string
  readonly xForwardedHost: string
}

/** The client as the outermost trusted proxy saw it; null where that said nothing. */
export interface SeenClient {
  readonly address: string
  readonly proto: 'http' | 'https' | null
  readonly host: string | null
}

/** One hop of RFC 7239: what one proxy says of who has asked it. */
export interface ForwardedElement {
  /** null: none, or none that is an address (`unknown`, `_hidden`). */
  readonly for: string | null
  readonly proto: string | null
  readonly host: string | null
}

/** Chains are short; what is longer is not read further. */
const hopsMost = 64

/**
 * Who the client is: read from the right, past every hop that is a trusted proxy. The first that is none is the client, whatever is
 * said to the left of it; so is the last one that a trusted proxy has named when it names nobody before. Null when `peer` itself is no
 * trusted proxy.
 */
export function clientBehind(peer: string, headers: ForwardedHeaders, rules: TrustRules): SeenClient | null {
  if (!isTrusted(peer, rules.proxies)) return null
  const unseen: SeenClient = { address: peer, proto: null, host: null }
  const hops = hopsOf(headers, rules.header)
  let seen = unseen
  for (const hop of hops.toReversed().slice(0, hopsMost)) {
    // What follows was written by somebody unknown.
    if (hop.for === null)
      return { ...seen, proto: protoOf(hop.proto) ?? seen.proto, host: hostOf(hop.host) ?? seen.host }
    seen = { address: hop.for, proto: protoOf(hop.proto) ?? seen.proto, host: hostOf(hop.host) ?? seen.host }
    if (!isTrusted(hop.for, rules.proxies)) break
  }
  return seen
}

function hopsOf(headers: ForwardedHeaders, header: ForwardedHeader): ForwardedElement[] {
  const isOld =
    header === 'x-forwarded' ||
    (header === 'any' && (headers.xForwardedFor.trim() !== '' || headers.forwarded.trim() === ''))
  return isOld ? hopsOfOld(headers) : (parseForwarded(headers.forwarded) ?? [])
}

/** Proxies add to X-Forwarded-For; the others they mostly replace, so there may be fewer of them: the nearest to the right count. */
function hopsOfOld({ xForwardedFor, xForwardedProto, xForwardedHost }: ForwardedHeaders): ForwardedElement[] {
  const addresses = listOf(xForwardedFor)
  const protos = listOf(xForwardedProto)
  const hosts = listOf(xForwardedHost)
  const at = (list: readonly string[], fromRight: number) =>
    list[Math.max(0, list.length - fromRight)] ?? null
  const hop = (text: string | null, fromRight: number) => ({
    for: text === null ? null : nodeAddress(text),
    proto: at(protos, fromRight),
    host: at(hosts, fromRight),
  })
  if (addresses.length === 0) return [hop(null, 1)]
  return addresses.map((text, index) => hop(text, addresses.length - index))
}

function listOf(value: string): string[] {
  return value.trim() === '' ? [] : value.split(',').map((one) => one.trim())
}

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+/
const quoted = /^"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"/

/** `Forwarded` by RFC 7239 §4, in the order in which it is written; null when it is malformed, so that nothing is read out of it. */
export function parseForwarded(text: string): ForwardedElement[] | null {
  const elements: ForwardedElement[] = []
  let rest = text.trim()
  if (rest === '') return []
  for (;;) {
    const pairs = new Map<string, string>()
    for (;;) {
      const name = token.exec(rest)?.[0]
      if (name !== undefined) {
        rest = rest.slice(name.length)
        if (!rest.startsWith('=')) return null
        rest = rest.slice(1)
        const string = quoted.exec(rest)
        const plain = string === null ? token.exec(rest) : null
        const value = string?.[1]?.replace(/\\(.)/gs, '$1') ?? plain?.[0]
        if (value === undefined || pairs.has(name.toLowerCase())) return null
        pairs.set(name.toLowerCase(), value)
        rest = rest.slice((string ?? plain)![0].length)
      }
      rest = rest.trimStart()
      if (!rest.startsWith(';')) break
      rest = rest.slice(1).trimStart()
    }
    // Of lists, empty elements do not count (RFC 9110 §5.6.1).
    if (pairs.size > 0) {
      const node = pairs.get('for')
      elements.push({
        for: node === undefined ? null : nodeAddress(node),
        proto: pairs.get('proto') ?? null,
        host: pairs.get('host') ?? null,
      })
    }
    if (rest === '') return elements
    if (!rest.startsWith(',')) return null
    rest = rest.slice(1).trimStart()
    if (rest === '') return elements
  }
}

/** The address of a node (RFC 7239 §6), without its port; null when it is none. Some write IPv6 without brackets. */
function nodeAddress(text: string): string | null {
  const [, bracketed, plain] =
    /^(?:\[([0-9A-Fa-f:.]{2,45})\](?::\w{1,6})?|([0-9.]{7,15})(?::\w{1,6})?)$/.exec(text) ?? []
  const address = bracketed ?? plain ?? text
  if (parseAddress(address) === null) return null
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(address) ? address.slice(7) : address.toLowerCase()
}

function protoOf(text: string | null): SeenClient['proto'] {
  const lower = text?.toLowerCase()
  if (lower === 'https' || lower === 'wss') return 'https'
  return lower === 'http' || lower === 'ws' ? 'http' : null
}

/** What may stand in a Host header. */
function hostOf(text: string | null): string | null {
  return text !== null && text.length <= 255 && /^(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/.test(text)
    ? text
    : null
}

function isTrusted(text: string, proxies: readonly Block[]): boolean {
  const address = parseAddress(text)
  return address !== null && proxies.some((block) => isInside(address, block))
}
