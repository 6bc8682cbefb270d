import type { Operator, SessionQuery, SessionView } from '../gateway/operator.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Peers } from './peers.ts'

interface Page {
  sessions: SessionView[]
  next: string | null
}

/** Between the gateway whose page comes next and its own cursor. */
const separator = '~'

/**
 * One page of the sessions of all gateways, one gateway after the other. A page may be empty and still have a next one.
 * Throws BAD_REQUEST (cursor), NOT_FOUND (node), NOT_READY (a gateway does not answer).
 */
export async function sessionsEverywhere(
  operator: Operator,
  peers: Peers,
  query: SessionQuery,
): Promise<Page> {
  const gateways = peers.all()
  if (gateways.length < 2) return operator.sessions(query)
  const { cursor, ...rest } = query
  const [id, own] = splitCursor(cursor)
  const at = id === null ? 0 : gateways.findIndex((gateway) => gateway.id === id)
  const gateway = gateways[at]
  if (gateway === undefined)
    throw new EvenkeelError('BAD_REQUEST', 'cursor names a gateway that is gone; begin anew')
  const part = own === '' ? rest : { ...rest, cursor: own }
  const page = gateway.self ? operator.sessions(part) : await pageOf(peers, gateway, part)
  const following = gateways[at + 1]
  if (page.next !== null) return { ...page, next: gateway.id + separator + page.next }
  return { ...page, next: following === undefined ? null : following.id + separator }
}

async function pageOf(
  peers: Peers,
  gateway: Parameters<Peers['call']>[0],
  query: SessionQuery,
): Promise<Page> {
  const search = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))
  const { status, body } = await peers.call(gateway, 'GET', `/sessions?${search}`)
  // A node that is not linked there has no sessions there.
  if (status === 404) return { sessions: [], next: null }
  if (status !== 200)
    throw new EvenkeelError('NOT_READY', `gateway ${gateway.id} answered ${status}; try again`)
  return body as Page
}

function splitCursor(cursor: string | undefined): [gateway: string | null, own: string] {
  if (cursor === undefined) return [null, '']
  const at = cursor.indexOf(separator)
  return at === -1 ? [null, cursor] : [cursor.slice(0, at), cursor.slice(at + 1)]
}
