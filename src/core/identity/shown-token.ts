import { cookieValues } from '../net/cookies.ts'

/** Where clients show their token. */
export const tokenPlaces = ['header', 'subprotocol', 'query', 'cookie'] as const
export type TokenPlace = (typeof tokenPlaces)[number]

/** Offered beside a token by those who have no other subprotocol: browsers insist on being answered one of those they offer. */
export const tokenSubprotocol = 'evenkeel.jwt'
const tokenPrefix = `${tokenSubprotocol}.`

/** Whether a subprotocol that is offered is none, but a token or the word that there is one. */
export function isTokenSubprotocol(name: string): boolean {
  return name === tokenSubprotocol || name.startsWith(tokenPrefix)
}
/** RFC 6750 §2.3. */
const queryName = 'access_token'

/** The parts of a request that tokens are in. */
export interface Shown {
  readonly authorization: string
  readonly cookie: string
  /** `Sec-WebSocket-Protocol`. */
  readonly subprotocols: string
  /** Without `?`. */
  readonly query: string
}

export interface ShownToken {
  readonly token: string
  readonly place: TokenPlace
}

/** The token that a request shows, in the first of these places that has one. null: none does. */
export function shownToken(
  shown: Shown,
  places: readonly TokenPlace[],
  cookieName: string,
): ShownToken | null {
  for (const place of places) {
    const token = tokenIn(shown, place, cookieName)
    if (token !== '') return { token, place }
  }
  return null
}

function tokenIn(
  { authorization, cookie, subprotocols, query }: Shown,
  place: TokenPlace,
  name: string,
): string {
  if (place === 'header') return /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? ''
  if (place === 'cookie') return cookieValues(cookie, name)[0] ?? ''
  if (place === 'query') return new URLSearchParams(query).get(queryName) ?? ''
  const offered = listed(subprotocols).find((one) => one.startsWith(tokenPrefix))
  return offered?.slice(tokenPrefix.length) ?? ''
}

/** What is left of a request for those behind the gateway: none of them gets the token. */
export function withoutToken(shown: Shown, places: readonly TokenPlace[], cookieName: string): Shown {
  return {
    authorization:
      places.includes('header') && /^Bearer\b/i.test(shown.authorization) ? '' : shown.authorization,
    cookie: places.includes('cookie') ? withoutCookie(shown.cookie, cookieName) : shown.cookie,
    subprotocols: listed(shown.subprotocols)
      .filter((one) => !one.startsWith(tokenPrefix))
      .join(', '),
    query: withoutQuery(shown.query),
  }
}

function withoutCookie(header: string, name: string): string {
  return header
    .split(';')
    .filter((pair) => !pair.trim().startsWith(`${name}=`))
    .join(';')
    .trim()
}

/** The rest stays as it was written. */
function withoutQuery(query: string): string {
  if (!query.includes(queryName) && !query.includes('%')) return query
  return query
    .split('&')
    .filter((pair) => !new URLSearchParams(pair).has(queryName))
    .join('&')
}

function listed(header: string): string[] {
  return header
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
}
