import type { IncomingMessage } from 'node:http'
import { claimHeader, headerText, pickClaims } from '../../core/identity/claims.ts'
import type { SessionMeta } from '../../protocol/link-records.ts'
import type { Identification } from './identification.ts'
import type { AuthOutcome, Identity } from './identity.ts'
import type { TokenRefused } from './verifier.ts'

/** What was found out about who sends a request. */
export interface Sender {
  readonly identification: Identification
  /** null: nobody who is known. */
  identity: Identity | null
  /** Why the token that was shown is not taken. */
  readonly refused: TokenRefused | null
  /** The client knows its token, and can be asked for another one. */
  readonly canRefresh: boolean
  count(outcome: AuthOutcome): void
  /** Why the request was not let in; null: it was, or nobody has said yet. */
  turnedAway: unknown
}

const senders = new WeakMap<IncomingMessage, Sender>()

export function setSender(request: IncomingMessage, sender: Sender): void {
  senders.set(request, sender)
}

/** null: nobody asks who clients are. */
export function senderOf(request: IncomingMessage): Sender | null {
  return senders.get(request) ?? null
}

/** null: not known. */
export function identityOf(request: IncomingMessage): Identity | null {
  return senders.get(request)?.identity ?? null
}

/** Clients cannot write headers of this kind: those behind the gateway believe them. CGI and its kin take `_` for `-`. */
export function isOwnHeader(request: IncomingMessage, name: string): boolean {
  const plain = name.toLowerCase().replaceAll('_', '-')
  if (plain.startsWith('x-evenkeel-')) return true
  return senders.get(request)?.identification.headerNames.has(plain) ?? false
}

/** What those behind the gateway are told of the user, in lower case. */
export function identityHeaders(request: IncomingMessage): [name: string, value: string][] {
  const sender = senders.get(request)
  if (sender === undefined || sender.identity === null) return []
  const { user, claims } = sender.identity
  const { userHeader, claimHeaders } = sender.identification.told
  const told: [string, string][] = [[userHeader, headerText(user)]]
  for (const [header, claim] of claimHeaders) {
    const value = claimHeader(claims, claim)
    if (value !== null) told.push([header, value])
  }
  return told
}

/** What nodes are told of the user. */
export function identityMeta(request: IncomingMessage): Pick<SessionMeta, 'user' | 'claims'> {
  const sender = senders.get(request)
  if (sender === undefined || sender.identity === null) return {}
  const { user, claims } = sender.identity
  return { user, claims: pickClaims(claims, sender.identification.told.claims) }
}
