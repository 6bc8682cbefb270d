import type { IncomingHttpHeaders } from 'node:http'

export interface Http1Head {
  readonly method: string
  /** '' when it is none that a server would answer. */
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: string[]
}

/** What a path may be made of; what comes after it in HTTP/1.1 would be another request to somebody else. */
const target = /^[\x21-\x7e\x80-\xff]*$/
const authority = /^[\w.:[\]~%!$&'()*+,;=-]+$/

/** Of which a request has one; a second one is dropped, as Node does. */
const single: ReadonlySet<string> = new Set([
  'age',
  'authorization',
  'content-length',
  'content-type',
  'etag',
  'expires',
  'from',
  'if-modified-since',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'referer',
  'retry-after',
  'server',
  'user-agent',
])

/**
 * The head of a request as HTTP/1.1 would have it (RFC 9113 §8.3.1, RFC 9112). An authority that is not the Host beside it makes two
 * of them, which is an error; one that cannot be a Host makes none.
 */
export function http1Head(raw: readonly string[], hasBody: boolean): Http1Head {
  // No prototype: `__proto__` is a header name that clients may send.
  const headers: Record<string, string> = Object.create(null)
  const rawHeaders: string[] = []
  const cookies: string[] = []
  const pseudo: Record<string, string> = Object.create(null)
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i]!
    const value = raw[i + 1]!
    if (name.startsWith(':')) pseudo[name] = value
    else if (name === 'cookie') cookies.push(value)
    // Said by the authority already.
    else if (name !== 'host' || value !== pseudo[':authority']) {
      rawHeaders.push(name, value)
      const before = headers[name]
      if (before === undefined) headers[name] = value
      else if (name !== 'host' && !single.has(name)) headers[name] = `${before}, ${value}`
    }
  }
  const host = pseudo[':authority']
  if (host !== undefined && authority.test(host)) {
    rawHeaders.unshift('host', host)
    headers.host = host
  }
  if (cookies.length > 0) {
    headers.cookie = cookies.join('; ')
    rawHeaders.push('cookie', headers.cookie)
  }
  if (hasBody && headers['content-length'] === undefined) headers['transfer-encoding'] = 'chunked'
  const path = pseudo[':path'] ?? ''
  return {
    method: pseudo[':method'] ?? 'GET',
    url: target.test(path) ? path : '',
    headers,
    rawHeaders,
  }
}
