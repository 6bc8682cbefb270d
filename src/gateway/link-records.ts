import type { LinkHandlers } from '../link/link.ts'
import { clipCloseReason, LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import {
  isRunRecord,
  parseContinued,
  parseFound,
  parseRefusal,
  parseReport,
  RecordFlag,
  RecordType,
  readU32,
  recordName,
} from '../protocol/link-records.ts'
import { channelNameRule, isChannelName } from '../protocol/names.ts'
import type { Gateway } from './gateway.ts'
import { type LinkedNode, linkOf } from './linked-node.ts'
import { ResumableSession } from './resumable-session.ts'
import { cast, changeRooms, tell } from './room-records.ts'
import { runRecord } from './run-records.ts'
import type { Session } from './session.ts'

/** What may cross with the end of a move or an assignment is no mistake of the node. */
const crossing: ReadonlySet<number> = new Set([
  RecordType.ready,
  RecordType.refused,
  RecordType.kept,
  RecordType.lost,
])

/** For how long a node that was declared down and speaks again is listened to before it is told. */
const lateFramesMs = 250

/** What the gateway does with each record of a node (PROTOCOL.md §1.3, §1.4). */
export function linkHandlers(gateway: Gateway, node: LinkedNode): LinkHandlers {
  return {
    record(type, flags, number, term, batch, start, end) {
      if (number === 0) {
        const body = batch.subarray(start, end)
        if (type === RecordType.report) report(gateway, node, body)
        else if (type === RecordType.found) gateway.resumes.found(node, parseFound(body))
        else if (type === RecordType.cast) cast(gateway, node, flags, body)
        else if (type === RecordType.tell) tell(gateway, node, flags, body)
        else channelRecord(gateway, node, type, flags, body)
        return
      }
      if (isRunRecord(type)) {
        runRecord(gateway.runs, node, type, number, term, batch.subarray(start, end))
        return
      }
      checkSize(gateway, type, end - start - 4)
      const session = gateway.sessions.get(number)
      if (session === undefined) {
        if (!gateway.resumes.record(node, type, flags, number, term, batch, start, end))
          gateway.counters.staleFramesDropped++
      } else if (session.node === node && session.term === term)
        current(gateway, node, session, type, flags, batch, start, end)
      else other(gateway, node, session, type, flags, term, batch, start, end)
    },
    drain() {
      for (const session of node.assigned) session.pump()
    },
    close(code, reason) {
      gateway.linkClosed(node, code, reason)
    },
  }
}

/** A node that was declared down speaks again: its sessions are elsewhere, and it has to learn that. */
export function zombieHandlers(gateway: Gateway, node: LinkedNode): LinkHandlers {
  let told = false
  return {
    record(type, _flags, number) {
      if (number !== 0 && !isRunRecord(type)) gateway.counters.staleFramesDropped++
    },
    batchEnd() {
      if (told) return
      told = true
      // What it wrote before it was stopped arrives in several reads; all of it is counted.
      setTimeout(
        () => node.link.close(LinkCloseCode.declaredDown, 'declared down; the sessions live elsewhere'),
        lateFramesMs,
      )
    },
    close() {},
  }
}

function report(gateway: Gateway, node: LinkedNode, body: Buffer): void {
  const said = parseReport(body)
  node.reported(said, gateway.id)
  gateway.reported(node, said)
}

/** PUBLISH, SUBSCRIBE, UNSUBSCRIBE. */
function channelRecord(gateway: Gateway, node: LinkedNode, type: number, flags: number, body: Buffer): void {
  if (type === RecordType.publish) {
    const nameEnd = 2 + body.readUInt16LE(0)
    if (nameEnd > body.length)
      throw new EvenkeelError('RECORD_INVALID', 'PUBLISH: the name is longer than the record')
    const name = channelName(body.toString('utf8', 2, nameEnd))
    // A copy: the bus may keep it, and the batch it is part of is large.
    gateway.publishFromNode(node, name, Buffer.from(body.subarray(nameEnd)), (flags & RecordFlag.text) !== 0)
    return
  }
  const name = channelName(body.toString('utf8'))
  if (type === RecordType.subscribe) {
    gateway.channels.open(name).nodes.add(node)
    return
  }
  const channel = gateway.channels.get(name)
  if (channel?.nodes.delete(node)) gateway.channels.closeIfEmpty(channel)
}

function channelName(name: string): string {
  if (isChannelName(name)) return name
  throw new EvenkeelError('RECORD_INVALID', channelNameRule)
}

/** The codec lets through what fits any configuration. Throws RECORD_INVALID. */
function checkSize({ limits }: Gateway, type: number, payloadBytes: number): void {
  const most =
    type === RecordType.output
      ? limits.messageBytes
      : type === RecordType.commit
        ? limits.stateBytes
        : payloadBytes
  if (payloadBytes > most) {
    throw new EvenkeelError(
      'RECORD_INVALID',
      `${recordName(type)} with a payload of ${payloadBytes} bytes, allowed are ${most}`,
    )
  }
}

/** A record of the session's present assignment. */
function current(
  gateway: Gateway,
  node: LinkedNode,
  session: Session,
  type: number,
  flags: number,
  batch: Buffer,
  start: number,
  end: number,
): void {
  switch (type) {
    case RecordType.output:
      session.output(flags, readU32(batch, start), batch, start + 4, end)
      break
    case RecordType.commit:
      session.commit(
        readU32(batch, start),
        (flags & RecordFlag.state) === 0 ? null : batch.toString('latin1', start + 4, end),
      )
      break
    case RecordType.fin:
      if (session.move?.attempt === readU32(batch, start)) session.move.step('fin')
      break
    case RecordType.close:
      gateway.canaries.closedByNode(node, batch[start]! | (batch[start + 1]! << 8))
      // Bytes that are no UTF-8 grow when they are replaced, and a reason that does not fit makes `ws` throw.
      session.closedByNode(
        batch[start]! | (batch[start + 1]! << 8),
        clipCloseReason(batch.toString('utf8', start + 2, end)),
      )
      break
    case RecordType.closed:
      if (session.closing === null) throw new EvenkeelError('RECORD_INVALID', 'CLOSED without CLOSE')
      session.end()
      break
    case RecordType.kept:
      if (session instanceof ResumableSession) session.nodeKeeps(readU32(batch, start))
      break
    case RecordType.lost:
      if (session instanceof ResumableSession) session.taken()
      break
    case RecordType.join:
      join(session, batch.toString('utf8', start, end))
      break
    case RecordType.leave:
      session.leave(batch.toString('utf8', start, end))
      break
    case RecordType.rooms:
      changeRooms(gateway, session, batch.subarray(start, end))
      break
    case RecordType.continued:
      gateway.continued(session, node, parseContinued(batch.subarray(start, end)))
      break
    case RecordType.refused:
      refused(gateway, node, session, batch.subarray(start, end))
      break
    default:
      gateway.counters.staleFramesDropped++
  }
}

function join(session: Session, name: string): void {
  if (!session.join(channelName(name)))
    linkOf(session.node!).putName(RecordType.denied, session.number, session.term, name)
}

function refused(gateway: Gateway, node: LinkedNode, session: Session, body: Buffer): void {
  const { code, attempt } = parseRefusal(body)
  if (code !== 'VETO') gateway.refused(session, node)
  else if (session.move?.attempt === attempt) session.move?.step('source-vetoed')
}

function isVeto(body: Buffer): boolean {
  return parseRefusal(body).code === 'VETO'
}

/** A record of another assignment: the target of a move answers, an old handler speaks late, or it is stale. */
function other(
  gateway: Gateway,
  node: LinkedNode,
  session: Session,
  type: number,
  flags: number,
  term: number,
  batch: Buffer,
  start: number,
  end: number,
): void {
  const { move } = session
  if (move !== null && move.to === node && move.attempt === term) {
    if (type === RecordType.ready) move.step('ready')
    // Who has taken a prepared session away has the served one too, or nothing: then it goes on where it is.
    else if (type === RecordType.refused && isVeto(batch.subarray(start, end))) move.step('target-vetoed')
    else if (type === RecordType.refused || type === RecordType.lost) move.step('refused')
    else if (type !== RecordType.kept) gateway.counters.staleFramesDropped++
    return
  }
  if (type === RecordType.output && session.lateOutput(node, term, flags, batch, start + 4, end)) return
  if (!crossing.has(type)) gateway.counters.staleFramesDropped++
}
