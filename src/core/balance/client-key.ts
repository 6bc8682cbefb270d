import { cookieValues } from '../net/cookies.ts'
import type { PolicyName } from './policies.ts'

/** Where a client's key is found. */
export const clientKeyPlaces = ['header', 'cookie', 'query'] as const

export interface ClientKey {
  readonly by: (typeof clientKeyPlaces)[number]
  readonly name: string
}

/** What a client has shown of itself. */
export interface ShownClient {
  readonly address: string
  /** Without `?`. */
  readonly query: string
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined }
  /** Found already; then nothing else is looked at. */
  readonly key?: string | null
}

/** Longer ones are cut: clients choose them, and each is read to its end. */
const keyCharsMax = 1_024

/** What the policy is to hash for the client; undefined: any node will do. */
export function clientKey(
  policy: PolicyName,
  hashKey: ClientKey | null,
  client: ShownClient,
): string | undefined {
  if (policy === 'ip-hash') return client.address
  if (policy !== 'key-hash') return undefined
  if (client.key != null) return client.key
  if (hashKey === null) return undefined
  const shown = shownKey(hashKey, client)
  // Who shows no key is no single client.
  return shown === undefined || shown === '' ? undefined : shown.slice(0, keyCharsMax)
}

function shownKey({ by, name }: ClientKey, { headers, query }: ShownClient): string | undefined {
  if (by === 'query') return new URLSearchParams(query).get(name) ?? undefined
  if (by === 'cookie') return cookieValues(textOf(headers.cookie), name)[0]
  return textOf(headers[name.toLowerCase()])
}

function textOf(value: string | readonly string[] | undefined): string {
  return typeof value === 'string' ? value : (value ?? []).join(', ')
}
