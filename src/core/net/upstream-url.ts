const urlLengthMax = 512
const idPattern = /^[A-Za-z0-9._:-]{1,64}$/

/** What the URL of an upstream must be, in words. */
export const upstreamUrlRule =
  'an http: or https: URL of scheme, host and port only, such as http://10.0.0.7:3000'

/** null when it is none. */
export function parseUpstreamUrl(text: unknown): URL | null {
  if (typeof text !== 'string' || text.length > urlLengthMax) return null
  // What a parser would drop in silence, or repair.
  if (!/^https?:\/\/[^\s/?#@\\]+\/?$/i.test(text)) return null
  const url = URL.parse(text)
  if (url === null || url.hostname === '' || url.port === '0') return null
  return url.username === '' && url.password === '' ? url : null
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
