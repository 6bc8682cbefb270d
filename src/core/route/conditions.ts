import { cookieValues } from '../net/cookies.ts'

/** What is said of a client that was identified: the claims of its token. */
export type Claims = Readonly<Record<string, unknown>>

/** What a request shows of itself, for conditions of routes. */
export interface ShownRequest {
  readonly method: string
  /** Without `?`. */
  readonly query: string
  /** Names in lower case; no prototype is needed. */
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined }
  /** null: nobody has identified the client. */
  readonly claims: Claims | null
}

/** What one value must be. A text: exactly this one. */
export type Condition =
  | string
  | { readonly equals: string }
  | { readonly prefix: string }
  | { readonly present: boolean }

/** By name. Of a value that comes several times one has to fit. */
export type Conditions = Readonly<Record<string, Condition>>

/** What a request must show; all of it. */
export interface RequestConditions {
  readonly headers?: Conditions
  readonly cookies?: Conditions
  readonly query?: Conditions
  /** Of texts, numbers and truth values, by their text; of lists, one of these. `realm.roles` is a field of a field. */
  readonly claims?: Conditions
}

export function fitsAll(
  { headers, cookies, query, claims }: RequestConditions,
  shown: ShownRequest,
): boolean {
  return (
    (headers === undefined || all(headers, (name) => headerValues(shown, name))) &&
    (cookies === undefined || all(cookies, (name) => cookiesOf(shown, name))) &&
    (query === undefined || all(query, valuesOfQuery(shown))) &&
    (claims === undefined || all(claims, (name) => claimValues(shown.claims, name)))
  )
}

/** Whether one condition holds, of whatever kind. */
export function fitsAny(
  { headers = {}, cookies = {}, query = {}, claims = {} }: RequestConditions,
  shown: ShownRequest,
): boolean {
  return (
    some(headers, (name) => headerValues(shown, name)) ||
    some(cookies, (name) => cookiesOf(shown, name)) ||
    some(query, valuesOfQuery(shown)) ||
    some(claims, (name) => claimValues(shown.claims, name))
  )
}

export function headerValues({ headers }: Pick<ShownRequest, 'headers'>, name: string): readonly string[] {
  const key = name.toLowerCase()
  const value = Object.hasOwn(headers, key) ? headers[key] : undefined
  return value === undefined ? [] : typeof value === 'string' ? [value] : value
}

export function cookiesOf(shown: Pick<ShownRequest, 'headers'>, name: string): readonly string[] {
  return cookieValues(headerValues(shown, 'cookie').join('; '), name)
}

export function claimValues(claims: Claims | null, name: string): readonly string[] {
  const value = claimAt(claims, name)
  return (Array.isArray(value) ? value : [value]).flatMap((one) =>
    typeof one === 'string' || typeof one === 'number' || typeof one === 'boolean' ? [String(one)] : [],
  )
}

/** Names of claims may be URLs: what is called so as a whole comes before a field of a field. */
function claimAt(claims: Claims | null, name: string): unknown {
  if (claims === null) return undefined
  if (Object.hasOwn(claims, name)) return claims[name]
  let value: unknown = claims
  for (const part of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<string, unknown>)[part]
  }
  return value
}

function valuesOfQuery({ query }: Pick<ShownRequest, 'query'>): (name: string) => readonly string[] {
  let parameters: URLSearchParams | null = null
  return (name) => {
    parameters ??= new URLSearchParams(query)
    return parameters.getAll(name)
  }
}

function all(conditions: Conditions, valuesOf: (name: string) => readonly string[]): boolean {
  return Object.entries(conditions).every(([name, condition]) => holds(condition, valuesOf(name)))
}

function some(conditions: Conditions, valuesOf: (name: string) => readonly string[]): boolean {
  return Object.entries(conditions).some(([name, condition]) => holds(condition, valuesOf(name)))
}

function holds(condition: Condition, values: readonly string[]): boolean {
  if (typeof condition === 'string') return values.includes(condition)
  if ('equals' in condition) return values.includes(condition.equals)
  if ('prefix' in condition) return values.some((value) => value.startsWith(condition.prefix))
  return values.length > 0 === condition.present
}
