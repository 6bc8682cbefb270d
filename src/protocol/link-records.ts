import { EvenkeelError } from './errors.ts'
import { defaultLimits } from './limits.ts'
import { channelNameBytes, is256Bits, isChannelName, isSessionId } from './names.ts'
import { type TraceContext, traceContextOf } from './trace-context.ts'

export { channelNameBytes, channelNameRule, isChannelName } from './names.ts'

/** Wire format of the link, PROTOCOL.md §1. Pure; knows no socket. */

export const linkSubprotocol = 'evenkeel-link.1'
export const linkProtocolVersion = 1
export const recordHeaderBytes = 14

export const RecordType = {
  hello: 0x01,
  welcome: 0x02,
  ping: 0x03,
  pong: 0x04,
  report: 0x05,
  steer: 0x06,
  drained: 0x07,
  publish: 0x08,
  subscribe: 0x09,
  unsubscribe: 0x0a,
  published: 0x0b,
  seek: 0x0c,
  found: 0x0d,
  drop: 0x0e,
  open: 0x10,
  prepare: 0x11,
  ready: 0x12,
  refused: 0x13,
  quiesce: 0x14,
  fin: 0x15,
  activate: 0x16,
  resume: 0x17,
  release: 0x18,
  keep: 0x19,
  kept: 0x1a,
  tail: 0x1b,
  take: 0x1c,
  taken: 0x1d,
  lost: 0x1e,
  message: 0x20,
  output: 0x21,
  commit: 0x22,
  credit: 0x23,
  close: 0x24,
  closed: 0x25,
  join: 0x26,
  leave: 0x27,
  denied: 0x28,
  acked: 0x29,
  rooms: 0x2a,
  continued: 0x2b,
  key: 0x2c,
  cast: 0x40,
  casted: 0x41,
  tell: 0x42,
  told: 0x43,
  peers: 0x44,
  run: 0x50,
  emitted: 0x51,
  stop: 0x52,
  logged: 0x53,
  append: 0x58,
  end: 0x59,
  attach: 0x5a,
  decline: 0x5b,
} as const

export const RecordFlag = {
  text: 0x01,
  redelivered: 0x02,
  state: 0x04,
  held: 0x08,
  late: 0x10,
  recovered: 0x20,
  resumable: 0x40,
  volatile: 0x80,
  /** Of OPEN: the session has no state, and may be open at other nodes too. */
  stateless: 0x08,
} as const

/** How a session goes on at a node that it has come to. */
export interface Continued {
  /** `exact`: as it was. `soft`: begun anew, over the same connection. `close`: its client has to come again. */
  tier: 'exact' | 'soft' | 'close'
  /** `migration`: it was handed over. `recovery`: it was opened as it was saved last. */
  cause: 'migration' | 'recovery'
}

const tiers: readonly Continued['tier'][] = ['exact', 'soft', 'close']

export type LinkRole = 'gateway' | 'node'

interface RecordSpec {
  name: string
  from: LinkRole | 'both'
  /** Session records carry a session and a term, records of runs a run's number and its epoch, link records neither. */
  session: boolean
  minBodyBytes: number
  maxBodyBytes: number
}

const jsonBytes = 64 * 1024
const reasonBytes = 123
const sessionIdBytes = 64
/** Longest idempotency key. */
export const idempotencyKeyBytes = 255
/** Room for a state or a message at any configured limit; the limits themselves are checked by the receiver. */
const payloadBytes = defaultLimits.linkMessageBytes

const specs: (RecordSpec | undefined)[] = []
function specify(
  type: number,
  name: string,
  from: RecordSpec['from'],
  minBodyBytes: number,
  maxBodyBytes = minBodyBytes,
) {
  const session = (type >= 0x10 && type < 0x40) || isRunRecord(type)
  specs[type] = { name, from, session, minBodyBytes, maxBodyBytes }
}
specify(RecordType.hello, 'HELLO', 'node', 2, jsonBytes)
specify(RecordType.welcome, 'WELCOME', 'gateway', 2, jsonBytes)
specify(RecordType.ping, 'PING', 'both', 4)
specify(RecordType.pong, 'PONG', 'both', 4)
specify(RecordType.report, 'REPORT', 'node', 2, jsonBytes)
specify(RecordType.steer, 'STEER', 'gateway', 2, jsonBytes)
specify(RecordType.drained, 'DRAINED', 'gateway', 0)
specify(RecordType.publish, 'PUBLISH', 'node', 3, payloadBytes)
specify(RecordType.subscribe, 'SUBSCRIBE', 'node', 1, channelNameBytes)
specify(RecordType.unsubscribe, 'UNSUBSCRIBE', 'node', 1, channelNameBytes)
specify(RecordType.published, 'PUBLISHED', 'gateway', 3, payloadBytes)
specify(RecordType.seek, 'SEEK', 'gateway', 2, jsonBytes)
specify(RecordType.found, 'FOUND', 'node', 2, jsonBytes)
specify(RecordType.drop, 'DROP', 'gateway', 2, jsonBytes)
specify(RecordType.open, 'OPEN', 'gateway', 16, payloadBytes)
specify(RecordType.prepare, 'PREPARE', 'gateway', 4, payloadBytes)
specify(RecordType.ready, 'READY', 'node', 0)
specify(RecordType.refused, 'REFUSED', 'node', 2, jsonBytes)
specify(RecordType.quiesce, 'QUIESCE', 'gateway', 4)
specify(RecordType.fin, 'FIN', 'node', 4)
specify(RecordType.activate, 'ACTIVATE', 'gateway', 12, payloadBytes)
specify(RecordType.resume, 'RESUME', 'gateway', 4)
specify(RecordType.release, 'RELEASE', 'gateway', 0)
specify(RecordType.keep, 'KEEP', 'gateway', 2, jsonBytes)
specify(RecordType.kept, 'KEPT', 'node', 4)
specify(RecordType.tail, 'TAIL', 'gateway', 4, payloadBytes)
specify(RecordType.take, 'TAKE', 'gateway', 9, 8 + sessionIdBytes)
specify(RecordType.taken, 'TAKEN', 'node', 10, payloadBytes)
specify(RecordType.lost, 'LOST', 'node', 0)
specify(RecordType.message, 'MESSAGE', 'gateway', 4, payloadBytes)
specify(RecordType.output, 'OUTPUT', 'node', 4, payloadBytes)
specify(RecordType.commit, 'COMMIT', 'node', 4, payloadBytes)
specify(RecordType.credit, 'CREDIT', 'gateway', 4)
specify(RecordType.close, 'CLOSE', 'both', 2, 2 + reasonBytes)
specify(RecordType.closed, 'CLOSED', 'node', 0)
specify(RecordType.join, 'JOIN', 'node', 1, channelNameBytes)
specify(RecordType.leave, 'LEAVE', 'node', 1, channelNameBytes)
specify(RecordType.denied, 'DENIED', 'gateway', 1, channelNameBytes)
specify(RecordType.acked, 'ACKED', 'gateway', 4)
specify(RecordType.rooms, 'ROOMS', 'node', 2, jsonBytes)
specify(RecordType.continued, 'CONTINUED', 'node', 2, jsonBytes)
specify(RecordType.key, 'KEY', 'gateway', 4, 4 + idempotencyKeyBytes)
specify(RecordType.cast, 'CAST', 'node', 8, payloadBytes)
specify(RecordType.casted, 'CASTED', 'gateway', 8)
specify(RecordType.tell, 'TELL', 'node', 3, payloadBytes)
specify(RecordType.told, 'TOLD', 'gateway', 3, payloadBytes)
specify(RecordType.peers, 'PEERS', 'gateway', 2, payloadBytes)

specify(RecordType.run, 'RUN', 'gateway', 4, payloadBytes)
specify(RecordType.emitted, 'EMITTED', 'gateway', 6, payloadBytes)
specify(RecordType.stop, 'STOP', 'gateway', 4)
specify(RecordType.logged, 'LOGGED', 'gateway', 4)
specify(RecordType.append, 'APPEND', 'node', 6, payloadBytes)
specify(RecordType.end, 'END', 'node', 6, jsonBytes)
specify(RecordType.attach, 'ATTACH', 'node', 2, jsonBytes)
specify(RecordType.decline, 'DECLINE', 'node', 0)

/** In these the fields `session` and `term` are the number and the epoch of a run. */
export function isRunRecord(type: number): boolean {
  return type >= 0x50 && type < 0x60
}

export function recordName(type: number): string {
  return specs[type]?.name ?? `0x${type.toString(16).padStart(2, '0')}`
}

/** What a record holds, as offsets into the batch it came in: nothing is copied. */
export type RecordVisitor = (
  type: number,
  flags: number,
  session: number,
  term: number,
  batch: Buffer,
  bodyStart: number,
  bodyEnd: number,
) => void

/**
 * Visits each record of one link message, in order.
 * Throws RECORD_INVALID at the first one that the protocol forbids; those before it have been visited.
 */
export function visitRecords(batch: Buffer, from: LinkRole, visit: RecordVisitor): void {
  const end = batch.length
  let offset = 0
  while (offset < end) {
    if (end - offset < recordHeaderBytes)
      throw invalid(`a record header needs ${recordHeaderBytes} bytes, ${end - offset} are left`)
    const length = readU32(batch, offset)
    const next = offset + 4 + length
    if (length < recordHeaderBytes - 4 || next > end)
      throw invalid(`length ${length} does not fit the message`)
    const type = batch[offset + 4]!
    const session = readU32(batch, offset + 6)
    const spec = specs[type]
    const bodyBytes = length - (recordHeaderBytes - 4)
    if (spec === undefined) throw invalid(`unknown record type ${recordName(type)}`)
    if (spec.from !== from && spec.from !== 'both') throw invalid(`${spec.name} does not come from a ${from}`)
    if (bodyBytes < spec.minBodyBytes || bodyBytes > spec.maxBodyBytes) {
      throw invalid(
        `${spec.name} has a body of ${bodyBytes} bytes, allowed are ${spec.minBodyBytes} to ${spec.maxBodyBytes}`,
      )
    }
    if (spec.session !== session > 0) throw invalid(`${spec.name} with session ${session}`)
    visit(
      type,
      batch[offset + 5]!,
      session,
      readU32(batch, offset + 10),
      batch,
      offset + recordHeaderBytes,
      next,
    )
    offset = next
  }
}

/** Writes a record header; the caller writes the body behind it. */
export function writeRecordHeader(
  target: Buffer,
  offset: number,
  bodyBytes: number,
  type: number,
  flags: number,
  session: number,
  term: number,
): void {
  writeU32(target, offset, bodyBytes + recordHeaderBytes - 4)
  target[offset + 4] = type
  target[offset + 5] = flags
  writeU32(target, offset + 6, session)
  writeU32(target, offset + 10, term)
}

// Buffer's readUInt32LE and writeUInt32LE check their arguments at every call; on the path of each message
// that is measurable, and the bounds are known here.
export function readU32(source: Buffer, offset: number): number {
  return (
    (source[offset]! |
      (source[offset + 1]! << 8) |
      (source[offset + 2]! << 16) |
      (source[offset + 3]! << 24)) >>>
    0
  )
}

export function writeU32(target: Buffer, offset: number, value: number): void {
  target[offset] = value
  target[offset + 1] = value >>> 8
  target[offset + 2] = value >>> 16
  target[offset + 3] = value >>> 24
}

export interface Hello {
  protocol: number
  id: string
  instance: string
  pool: string
  weight: number
  maxSessions: number | null
  host: string
  pid: number
  version: string
  /** Whether balance is a reason to move the node's sessions. Absent: `always`. */
  migrate?: MigratePolicy
  /** It wants to know the others of its pool that want the same, and be told things by them. Default false. */
  peers?: boolean
  /** False: it serves no sessions and is given none. */
  sessions?: boolean
  /** What it makes when asked. */
  runs?: RunOffer[]
}

/** A name of `node.run`. */
export interface RunOffer {
  name: string
  /** So many at once. */
  concurrency: number
  onLoss: LossPolicy
}

const lossPolicies = ['continue', 'restart', 'fail', 'auto'] as const

/** What becomes of a run whose producer is lost; `auto`: `restart`, but `fail` once it had an effect on the outside. */
export type LossPolicy = (typeof lossPolicies)[number]

/** Names in one HELLO. */
export const runOffersMost = 64

/** What the gateway says of a run that it gives to a node. */
export interface RunOrder {
  run: string
  name: string
  /** What the node is to continue; null: no trace. */
  trace: TraceContext | null
}

const migratePolicies = ['always', 'drain'] as const

/** `always`: sessions move for balance too. `drain`: only when the node is drained, or an operator moves one. */
export type MigratePolicy = (typeof migratePolicies)[number]

export interface Welcome {
  protocol: number
  gateway: string
  /** Random for each process. */
  instance: string
  /** For how long a node keeps a resumable session that no gateway has. */
  resumeMs: number
  limits: { messageBytes: number; stateBytes: number; clientBufferBytes: number }
  heartbeatMs: number
  suspectMs: number
  downMs: number
}

export interface Report {
  /** Sessions at the node by gateway, so that gateways agree on loads without asking each other. */
  gateways: Record<string, number>
  eventLoopLagMs: number
  weight: number
  /** The node is to be, or wants to be, emptied. */
  drain: DrainOrder | null
  /** STEER records that came over this link. */
  steered: number
  /** Runs that it makes, by name and gateway id ('': one whose gateway is gone). Absent: none. */
  runs?: Record<string, Record<string, number>>
  /** What the node carries, in a measure of its own. Absent: it does not say. */
  load?: number
  /** What it was given to keep with STEER. Absent: nothing. */
  canary?: string
}

/** null: as the gateway does by default. */
export interface DrainOrder {
  deadlineMs: number | null
  ratePerSecond: number | null
}

export interface Steer {
  weight?: number
  drain?: DrainOrder | null
  /** Of the node's version, for its gateways: the node keeps it as it is, and reports it. */
  canary?: string
}

/** Longest `canary` of STEER and REPORT, in characters. */
export const canaryTextMost = 2_048

const refusalCodes = ['FULL', 'DRAINING', 'STALE', 'GAP', 'VETO'] as const

export interface Refusal {
  code: (typeof refusalCodes)[number]
  message: string
  /** With VETO of a source: of which hand-over. */
  attempt?: number
  /** With GAP: the node has every output behind this one. */
  out?: number
}

/** A gateway looks for a session that a client wants to resume (PROTOCOL.md §1.10). */
export interface Seek {
  /** Number of the search, echoed in FOUND. */
  seek: number
  session: string
  /** Hash of the token that the client showed. */
  token: string
  /** Hash of the token that it will get. */
  next: string
  /** Who the client is; absent: nobody who is known. */
  user?: string
}

export interface Found {
  seek: number
  /** 0: not here. */
  term: number
  /** The node serves the session; it was not only prepared for it. */
  live: boolean
  /** Why it is not here; null when it is. */
  reason: 'unknown' | 'token' | 'user' | null
}

export interface Drop {
  session: string
  term: number
}

export interface Keep {
  version: number
  /** Hashes: of the present resume token, and of the one before it while that one is still valid. */
  tokens: string[]
  /** The last output that the client has acknowledged. */
  out: number
  /** null: as before. */
  channels: string[] | null
  /** Those that the client has joined (true) or left by itself since. */
  changed?: readonly (readonly [channel: string, joined: boolean])[]
}

/** What TAKEN says beside numbers and state. */
export interface TakenInfo {
  meta: SessionMeta
  channels: string[]
  /** The last message that the node has got. */
  received: number
  /** Idempotency keys of messages up to that one. */
  keys: [key: string, seq: number][]
}

/** What the node learns of a session's client. */
export interface SessionMeta {
  id: string
  /** `tcp` is seen by operators only. */
  transport: 'websocket' | 'sse' | 'socket.io' | 'engine.io' | 'tcp'
  /** IP address of the client. */
  address: string
  path: string
  /** Raw query string without `?`. */
  query: string
  /** Names in lower case; repeated headers joined by `, `. */
  headers: Record<string, string>
  /** '' when none was selected. */
  subprotocol: string
  /** Who the client is, where gateways ask; as it was when it first came. */
  user?: string
  /** What is said of that user, as far as the gateway passes it on. */
  claims?: Readonly<Record<string, unknown>>
}

const namePattern = /^[A-Za-z0-9._:-]{1,64}$/
const maxWeight = 1_000_000

/** Throws RECORD_INVALID naming the field and the allowed values. */
export function parseHello(body: Buffer): Hello {
  const value = parseJsonObject(body, 'HELLO')
  const { protocol, id, instance, pool, weight, maxSessions, host, pid, version } = value
  const { migrate, peers, sessions, runs } = value
  if (typeof protocol !== 'number') throw invalid('HELLO.protocol must be a number')
  if (!isName(id)) throw invalid('HELLO.id must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (!isName(instance) || instance.length < 8)
    throw invalid('HELLO.instance must be 8 to 64 of A-Z a-z 0-9 . _ : -')
  if (!isName(pool)) throw invalid('HELLO.pool must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (!isWeight(weight)) throw invalid(`HELLO.weight must be above 0, at most ${maxWeight}`)
  if (maxSessions !== null && !isCount(maxSessions, 1))
    throw invalid('HELLO.maxSessions must be null or a whole number from 1')
  if (typeof host !== 'string' || host.length > 255)
    throw invalid('HELLO.host must be a string of at most 255 characters')
  if (!isCount(pid, 0)) throw invalid('HELLO.pid must be a whole number')
  if (typeof version !== 'string' || version.length > 64)
    throw invalid('HELLO.version must be a string of at most 64 characters')
  if (migrate !== undefined && !isMigratePolicy(migrate))
    throw invalid(`HELLO.migrate must be one of ${migratePolicies.join(', ')}`)
  if (peers !== undefined && typeof peers !== 'boolean') throw invalid('HELLO.peers must be a boolean')
  if (sessions !== undefined && typeof sessions !== 'boolean')
    throw invalid('HELLO.sessions must be a boolean')
  if (runs !== undefined && !isRunOffers(runs))
    throw invalid(
      `HELLO.runs must be at most ${runOffersMost} of {name, concurrency, onLoss}, each name once, concurrency from 1`,
    )
  return {
    protocol,
    id,
    instance,
    pool,
    weight,
    maxSessions,
    host,
    pid,
    version,
    ...(migrate === undefined ? {} : { migrate }),
    ...(peers === undefined ? {} : { peers }),
    ...(sessions === undefined ? {} : { sessions }),
    ...(runs === undefined ? {} : { runs }),
  }
}

export function parseReport(body: Buffer): Report {
  const { gateways, eventLoopLagMs, weight, drain, steered, runs, load, canary } = parseJsonObject(
    body,
    'REPORT',
  )
  if (!isCounts(gateways)) throw invalid('REPORT.gateways must be an object of whole numbers')
  if (typeof eventLoopLagMs !== 'number' || !(eventLoopLagMs >= 0))
    throw invalid('REPORT.eventLoopLagMs must be 0 or more')
  if (!isWeight(weight)) throw invalid(`REPORT.weight must be above 0, at most ${maxWeight}`)
  if (!isDrain(drain))
    throw invalid('REPORT.drain must be null or {deadlineMs, ratePerSecond}, each null or a whole number')
  if (!isCount(steered, 0)) throw invalid('REPORT.steered must be a whole number')
  if (runs !== undefined && !isRunCounts(runs))
    throw invalid('REPORT.runs must be an object of objects of whole numbers')
  if (load !== undefined && !(typeof load === 'number' && load >= 0))
    throw invalid('REPORT.load must be 0 or more')
  if (canary !== undefined && !isCanaryText(canary)) throw invalid(`REPORT.canary ${canaryTextRule}`)
  return {
    gateways,
    eventLoopLagMs,
    weight,
    drain,
    steered,
    ...(runs === undefined ? {} : { runs }),
    ...(load === undefined ? {} : { load }),
    ...(canary === undefined ? {} : { canary }),
  }
}

/** Throws RECORD_INVALID. */
export function parseRunOrder(body: Buffer, record: string): RunOrder {
  const { run, name, traceparent, tracestate } = parseJsonObject(body, record)
  if (!isSessionId(run)) throw invalid(`${record}.run must be 1 to 64 of A-Z a-z 0-9 _ -`)
  if (!isName(name)) throw invalid(`${record}.name must be 1 to 64 of A-Z a-z 0-9 . _ : -`)
  return { run, name, trace: traceContextOf({ traceparent, tracestate }) }
}

export function parseSteer(body: Buffer): Steer {
  const { weight, drain, canary } = parseJsonObject(body, 'STEER')
  if (weight !== undefined && !isWeight(weight))
    throw invalid(`STEER.weight must be above 0, at most ${maxWeight}`)
  if (drain !== undefined && !isDrain(drain))
    throw invalid('STEER.drain must be null or {deadlineMs, ratePerSecond}')
  if (canary !== undefined && !isCanaryText(canary)) throw invalid(`STEER.canary ${canaryTextRule}`)
  return {
    ...(weight === undefined ? {} : { weight }),
    ...(drain === undefined ? {} : { drain }),
    ...(canary === undefined ? {} : { canary }),
  }
}

const canaryTextRule = `must be a string of at most ${canaryTextMost} characters`

function isCanaryText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= canaryTextMost
}

export function parseWelcome(body: Buffer): Welcome {
  const value = parseJsonObject(body, 'WELCOME')
  const limits = value.limits as Welcome['limits'] | undefined
  const numbers = [
    value.protocol,
    value.heartbeatMs,
    value.suspectMs,
    value.downMs,
    value.resumeMs,
    limits?.messageBytes,
    limits?.stateBytes,
    limits?.clientBufferBytes,
  ]
  if (
    typeof value.gateway !== 'string' ||
    typeof value.instance !== 'string' ||
    !numbers.every((n) => isCount(n, 1))
  )
    throw invalid('WELCOME lacks a field')
  return value as unknown as Welcome
}

export function parseRefusal(body: Buffer): Refusal {
  const { code, message, attempt, out } = parseJsonObject(body, 'REFUSED')
  if (!refusalCodes.includes(code as Refusal['code']))
    throw invalid(`REFUSED.code must be one of ${refusalCodes.join(', ')}`)
  return {
    code: code as Refusal['code'],
    message: String(message ?? ''),
    ...(isCount(attempt, 0) ? { attempt } : {}),
    ...(isCount(out, 0) ? { out } : {}),
  }
}

/** Throws RECORD_INVALID. */
export function parseContinued(body: Buffer): Continued {
  const { tier, cause } = parseJsonObject(body, 'CONTINUED')
  if (!tiers.includes(tier as Continued['tier']))
    throw invalid(`CONTINUED.tier must be one of ${tiers.join(', ')}`)
  if (cause !== 'migration' && cause !== 'recovery')
    throw invalid('CONTINUED.cause must be migration or recovery')
  return { tier: tier as Continued['tier'], cause }
}

export function parseSeek(body: Buffer): Seek {
  const { seek, session, token, next, user } = parseJsonObject(body, 'SEEK')
  if (!isCount(seek, 1)) throw invalid('SEEK.seek must be a whole number from 1')
  if (!isSessionId(session)) throw invalid('SEEK.session must be a session id')
  if (!is256Bits(token) || !is256Bits(next)) throw invalid('SEEK.token and SEEK.next must be hashes')
  if (user !== undefined && typeof user !== 'string') throw invalid('SEEK.user must be a text')
  return { seek, session, token, next, ...(user === undefined ? {} : { user }) }
}

export function parseFound(body: Buffer): Found {
  const { seek, term, live, reason } = parseJsonObject(body, 'FOUND')
  if (!isCount(seek, 1)) throw invalid('FOUND.seek must be a whole number from 1')
  if (!isCount(term, 0)) throw invalid('FOUND.term must be a whole number')
  return {
    seek,
    term,
    live: live === true,
    reason: reason === 'unknown' || reason === 'token' || reason === 'user' ? reason : null,
  }
}

export function parseDrop(body: Buffer): Drop {
  const { session, term } = parseJsonObject(body, 'DROP')
  if (!isSessionId(session) || !isCount(term, 0)) throw invalid('DROP must be {session, term}')
  return { session, term }
}

export function parseKeep(body: Buffer): Keep {
  const { version, tokens, out, channels, changed } = parseJsonObject(body, 'KEEP')
  if (!isCount(version, 1) || !isCount(out, 0))
    throw invalid('KEEP.version and KEEP.out must be whole numbers')
  if (!Array.isArray(tokens) || tokens.length < 1 || tokens.length > 2 || !tokens.every(is256Bits))
    throw invalid('KEEP.tokens must be one or two hashes')
  if (channels !== null && !isChannelList(channels)) throw invalid('KEEP.channels must be null or names')
  if (changed === undefined) return { version, tokens, out, channels }
  if (!Array.isArray(changed) || !changed.every(isChange))
    throw invalid('KEEP.changed must be [[channel, joined], …]')
  return { version, tokens, out, channels, changed }
}

/** Throws RECORD_INVALID. Of `meta` only the id is checked: it came from a gateway once. */
export function parseTakenInfo(body: Buffer): TakenInfo {
  const { meta, channels, received = 0, keys = [] } = parseJsonObject(body, 'TAKEN')
  if (!isChannelList(channels)) throw invalid('TAKEN.channels must be names')
  if (typeof meta !== 'object' || meta === null || !isSessionId((meta as SessionMeta).id))
    throw invalid("TAKEN.meta must be a session's meta")
  if (!isCount(received, 0)) throw invalid('TAKEN.received must be a whole number')
  if (!Array.isArray(keys) || !keys.every(isKey)) throw invalid('TAKEN.keys must be [[key, number], …]')
  return { meta: meta as SessionMeta, channels, received, keys }
}

function isKey(value: unknown): value is [key: string, seq: number] {
  return Array.isArray(value) && typeof value[0] === 'string' && isCount(value[1], 1)
}

function isChange(value: unknown): value is [channel: string, joined: boolean] {
  return Array.isArray(value) && isChannelList(value.slice(0, 1)) && typeof value[1] === 'boolean'
}

function isChannelList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string' && isChannelName(name))
}

export function isMigratePolicy(value: unknown): value is MigratePolicy {
  return migratePolicies.includes(value as MigratePolicy)
}

export function isWeight(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value <= maxWeight
}

export function isLossPolicy(value: unknown): value is LossPolicy {
  return lossPolicies.includes(value as LossPolicy)
}

function isRunOffers(value: unknown): value is RunOffer[] {
  if (!Array.isArray(value) || value.length > runOffersMost) return false
  const isOffer = (one: unknown) => {
    if (typeof one !== 'object' || one === null) return false
    const { name, concurrency, onLoss } = one as Record<string, unknown>
    return isName(name) && isCount(concurrency, 1) && isLossPolicy(onLoss)
  }
  return value.every(isOffer) && new Set(value.map(({ name }) => name)).size === value.length
}

function isRunCounts(value: unknown): value is Record<string, Record<string, number>> {
  return typeof value === 'object' && value !== null && Object.values(value).every(isCounts)
}

export function isName(value: unknown): value is string {
  return typeof value === 'string' && namePattern.test(value)
}

function isDrain(value: unknown): value is DrainOrder | null {
  if (value === null) return true
  if (typeof value !== 'object') return false
  const { deadlineMs, ratePerSecond } = value as Record<string, unknown>
  return [deadlineMs, ratePerSecond].every((number) => number === null || isCount(number, 0))
}

function isCounts(value: unknown): value is Record<string, number> {
  return (
    typeof value === 'object' && value !== null && Object.values(value).every((count) => isCount(count, 0))
  )
}

function isCount(value: unknown, min: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min
}

function parseJsonObject(body: Buffer, name: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    throw invalid(`${name} is not JSON`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${name} must be a JSON object`)
  return value as Record<string, unknown>
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('RECORD_INVALID', message)
}
