import { EvenkeelError } from '../protocol/errors.ts'
import { channelNameBytes, RecordFlag, RecordType, readU32 } from '../protocol/link-records.ts'
import { SharedMessages } from './client-connection.ts'
import type { Gateway } from './gateway.ts'
import { type LinkedNode, linkOf } from './linked-node.ts'
import type { RoomName } from './rooms.ts'
import type { Session } from './session.ts'

const onceLength = 128

/** What the gateway does with ROOMS, CAST and TELL (PROTOCOL.md §1.11). All throw RECORD_INVALID. */

export function changeRooms({ rooms }: Gateway, session: Session, body: Buffer): void {
  const change = parse(body, 'ROOMS')
  if (change.reset === true) {
    rooms.leaveAll(session)
    return
  }
  const scope = scopeOf(change, 'ROOMS')
  if (change.end === true) {
    rooms.end(session, scope)
    return
  }
  rooms.leave(session, scope, names(change.leave, 'ROOMS.leave'))
  const join = names(change.join, 'ROOMS.join')
  if (join.length === 0) return
  for (const room of rooms.join(session, scope, join)) {
    const name = Buffer.from(String(room)).subarray(0, channelNameBytes).toString('latin1')
    linkOf(session.node!).putName(RecordType.denied, session.number, session.term, name.slice(0, 64))
  }
}

/** A message to the clients of all sessions in an audience, or to their nodes. */
export function cast(gateway: Gateway, node: LinkedNode, flags: number, body: Buffer): void {
  const number = readU32(body, 0)
  const jsonEnd = 8 + readU32(body, 4)
  if (jsonEnd > body.length) throw invalid('CAST: the audience is longer than the record')
  if (body.length - jsonEnd > gateway.limits.messageBytes)
    throw invalid(`CAST with a payload above ${gateway.limits.messageBytes} bytes`)
  const order = parse(body.subarray(8, jsonEnd), 'CAST')
  const scope = scopeOf(order, 'CAST')
  const audience = {
    scope,
    rooms: names(order.rooms, 'CAST.rooms'),
    except: names(order.except, 'CAST.except'),
  }
  const sessions = isNew(gateway, node, order.once) ? gateway.rooms.of(node.pool, audience) : []
  const [join, leave] = [names(order.join, 'CAST.join'), names(order.leave, 'CAST.leave')]
  // A copy: clients that read slowly keep it, and the batch it is part of is large.
  const payload = Buffer.from(body.subarray(jsonEnd))
  const text = (flags & RecordFlag.text) !== 0
  const shared = new SharedMessages(scope, [{ payload, text, position: null }])
  const isVolatile = (flags & RecordFlag.volatile) !== 0
  let count = 0
  for (const session of sessions) {
    if (join.length > 0) gateway.rooms.join(session, scope, join)
    if (leave.length > 0) gateway.rooms.leave(session, scope, leave)
    if (order.to === 'nodes') {
      if (session.receive(payload, text)) count++
    } else {
      session.deliverCast(shared, isVolatile)
      count++
    }
  }
  if (number !== 0) node.link.putFields(RecordType.casted, 0, 0, 0, [number, count])
}

function isNew({ onceCasts }: Gateway, { pool }: LinkedNode, once: unknown): boolean {
  if (once === undefined) return true
  if (typeof once !== 'string' || once === '' || once.length > onceLength)
    throw invalid(`CAST.once must be a string of 1 to ${onceLength} characters`)
  return onceCasts.isFirst(pool, once)
}

/** Passes something on to one node of the pool, or to all others. */
export function tell(gateway: Gateway, node: LinkedNode, flags: number, body: Buffer): void {
  const nameEnd = 2 + body.readUInt16LE(0)
  if (nameEnd > body.length) throw invalid('TELL: the name is longer than the record')
  const name = body.toString('utf8', 2, nameEnd)
  for (const peer of gateway.nodes.linkedIn(node.pool)) {
    if (peer === node || peer.hello.peers !== true || (name !== '*' && peer.id !== name)) continue
    peer.link.putChannel(RecordType.told, flags & RecordFlag.text, node.id, body.subarray(nameEnd))
  }
}

function parse(body: Buffer, record: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw invalid(`${record} must be a JSON object`)
}

function scopeOf({ scope }: Record<string, unknown>, record: string): string {
  if (typeof scope === 'string' && scope !== '' && scope.length <= channelNameBytes) return scope
  throw invalid(`${record}.scope must be a string of 1 to ${channelNameBytes} characters`)
}

function names(value: unknown, field: string): RoomName[] {
  if (value === undefined) return []
  const isName = (name: unknown) => typeof name === 'string' || typeof name === 'number'
  if (Array.isArray(value) && value.every(isName)) return value as RoomName[]
  throw invalid(`${field} must be a list of strings and numbers`)
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('RECORD_INVALID', message)
}
