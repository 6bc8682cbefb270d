import { parseAddress } from '../core/net/address.ts'
import { type AddressRules, refusalOfAddress } from '../core/net/address-rules.ts'
import { hostOfUrl, portOfUrl } from '../core/net/upstream-url.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { UpstreamSpec } from './directory-member.ts'
import type { UpstreamAddress } from './upstream-directory.ts'

export interface AddressFinder {
  /** The addresses of a host. Rejects with NOT_READY. */
  lookup(host: string): Promise<readonly string[]>
  /** Why an address may not be an upstream though its kind may be one. */
  refuse(address: UpstreamAddress): string | null
}

export type FoundAddress =
  | { readonly address: UpstreamAddress; readonly problem: null }
  /** `refused`: there are addresses, and none may be used. */
  | { readonly address: null; readonly problem: string; readonly refused: boolean }

/**
 * An address of the upstream that may be dialled, and from then on is, without another look at the name: the present one as long as
 * the name has it. Nothing is dialled here.
 */
export async function findAddress(
  { lookup, refuse }: AddressFinder,
  allowed: AddressRules['allowed'],
  { url, address: given, loopback }: UpstreamSpec,
  present: UpstreamAddress | null,
): Promise<FoundAddress> {
  const port = portOfUrl(url)
  const name = hostOfUrl(url)
  let hosts: readonly string[]
  try {
    const literal = given ?? (parseAddress(name) === null ? null : name)
    hosts = literal === null ? await lookup(name) : [literal]
  } catch (error) {
    if (!(error instanceof EvenkeelError)) throw error
    return { address: null, problem: error.message, refused: false }
  }
  let refusal: string | null = null
  const usable: UpstreamAddress[] = []
  for (const host of hosts) {
    const why = refusalOfAddress(host, { allowed, loopback }) ?? refuse({ host, port })
    if (why === null) usable.push({ host, port })
    else refusal = why
  }
  const address = usable.find(({ host }) => host === present?.host) ?? usable[0]
  if (address !== undefined) return { address, problem: null }
  return { address: null, problem: refusal ?? `${name} has no address`, refused: refusal !== null }
}
