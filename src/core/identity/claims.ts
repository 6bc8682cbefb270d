/** What a token, or who was asked, says of a user. */
export type Claims = Readonly<Record<string, unknown>>

/** The value of a claim; `.` leads into objects, unless a claim is called so as a whole. undefined: there is none. */
export function claimAt(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path]
  let value: unknown = claims
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<string, unknown>)[part]
  }
  return value
}

/** The claim as texts: one, or all of a list. Numbers count as texts, `scope` of OAuth 2 as a list; all else as nothing. */
export function claimTexts(claims: Claims, path: string): string[] {
  const value = claimAt(claims, path)
  if (path === 'scope' && typeof value === 'string') return value.split(' ').filter((part) => part !== '')
  const values = Array.isArray(value) ? value : [value]
  return values.flatMap((one) => (typeof one === 'string' || typeof one === 'number' ? [String(one)] : []))
}

/** Those of the names that are there, by the names as they were asked for. */
export function pickClaims(claims: Claims, names: readonly string[]): Claims {
  // No prototype: a claim may be called `__proto__`.
  const picked: Record<string, unknown> = Object.create(null)
  for (const name of names) {
    const value = claimAt(claims, name)
    if (value !== undefined) picked[name] = value
  }
  return picked
}

const userLength = 255

/** The user that a claim names: a text, or a whole number as text. null: it names none. */
export function userOf(claims: Claims, claim: string): string | null {
  const value = claimAt(claims, claim)
  const user = Number.isSafeInteger(value) ? String(value) : value
  if (typeof user !== 'string' || user === '' || user.length > userLength) return null
  // Users go into logs and headers.
  return /\p{Cc}/u.test(user) || !user.isWellFormed() ? null : user
}

/** As a header can hold it: what is not printable ASCII, and `%`, is percent-encoded. */
export function headerText(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent)
    .replace(/^ | $/g, '%20')
}

/** The value of a header that a claim is passed on in: texts joined by `,`, else JSON. null: there is no such claim. */
export function claimHeader(claims: Claims, path: string): string | null {
  const value = claimAt(claims, path)
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return headerText(value)
  const isTexts = Array.isArray(value) && value.every((one) => typeof one === 'string' && !one.includes(','))
  return headerText(isTexts ? value.join(',') : JSON.stringify(value))
}
