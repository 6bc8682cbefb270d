const urlLengthMax = 512
const idPattern = /^[A-Za-z0-9._:-]{1,64}$/

/** What the URL of an upstream must be, in words. */
export const upstreamUrlRule =
  'an http: or https: URL of scheme, host and port only, such as http://10.0.0.7:3000, or tcp:// with host and port'

/** null when it is none. */
export function parseUpstreamUrl(text: unknown): URL | null {
  if (typeof text !== 'string' || text.length > urlLengthMax) return null
  if (/^tcp:/i.test(text)) return parseTcpUrl(text)
  // What a parser would drop in silence, or repair.
  if (!/^https?:\/\/[^\s/?#@\\]+\/?$/i.test(text)) return null
  const url = URL.parse(text)
  if (url === null || url.hostname === '' || url.port === '0') return null
  return url.username === '' && url.password === '' ? url : null
}

/** Parsers take the host of an unknown scheme as it is; this one is read as that of any URL. A port has to be there. */
function parseTcpUrl(text: string): URL | null {
  const [, port] = /:(\d{1,5})\/?$/.exec(text) ?? []
  if (port === undefined || Number(port) > 65_535) return null
  const url = parseUpstreamUrl(text.replace(/^tcp:/i, 'http:'))
  return url === null ? null : new URL(`tcp://${url.hostname}:${port}`)
}

/** Scheme, host and port, which `URL.origin` does not say of `tcp:`. */
export function originOfUrl({ protocol, host }: URL): string {
  return `${protocol}//${host}`
}

export function isTcpUrl({ protocol }: URL): boolean {
  return protocol === 'tcp:'
}

export function portOfUrl({ port, protocol }: URL): number {
  if (port !== '') return Number(port)
  return protocol === 'https:' ? 443 : 80
}

/** Without the brackets of IPv6. */
export function hostOfUrl({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, '$1')
}

/** `host:port`. A long name makes one that is no id. */
export function defaultUpstreamId(url: URL): string {
  return `${hostOfUrl(url)}:${portOfUrl(url)}`
}

export function isUpstreamId(value: unknown): value is string {
  return typeof value === 'string' && idPattern.test(value)
}

export const upstreamIdRule = '1 to 64 of A-Z a-z 0-9 . _ : -'
