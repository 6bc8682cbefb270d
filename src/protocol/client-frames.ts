/** Frames of `evenkeel.v1` (PROTOCOL.md §2.1). Runs in browsers too. */
import { EvenkeelError } from './errors.ts'
import { channelNameBytes, channelNameRule, is256Bits, isChannelName, isSessionId } from './names.ts'
import { isLongerThan, utf8 } from './utf8.ts'

export const clientSubprotocol = 'evenkeel.v1'

export * as ClientFrame from './client-frame.ts'

export const pingFrame = 'p'

/** The longest hello frame. */
export const helloBytes = 128 * 1024
/** The most channels that a hello names. */
export const helloChannels = 128
const positionLength = 64
/** Timers take no more. */
const msMax = 2 ** 31 - 1

/** Text travels in a text frame, bytes in a binary one. */
export type Payload = string | Uint8Array

export interface ClientHello {
  /** Absent: a new session. */
  resume?: ClientResume
}

export interface ClientResume {
  session: string
  token: string
  /** The last output that the client has handled. */
  out: number
  /** The last position that the client has seen of each channel. Without prototype when parsed, so names may be looked up. */
  channels: Record<string, string | null>
}

const lossReasons = ['unknown', 'token', 'gap'] as const
export type LossReason = (typeof lossReasons)[number]

export interface ClientWelcome {
  session: string
  token: string
  /** null: the client did not ask for an earlier session. */
  recovered: boolean | null
  /** Why it is not recovered; null when there is nothing to explain. */
  reason: LossReason | null
  /** Messages up to this number are committed … */
  ack: number
  /** … and up to this one need not be sent again. Never below `ack`. */
  last: number
  /** The first output has the number after this one. */
  out: number
  /** For how long the session can be resumed after the loss of its connection. */
  resumeMs: number
  /** The first attempt after the loss of this connection waits this long. */
  retryMs: number
  /** The largest payload of a message. */
  messageBytes: number
}

const verdicts = ['joined', 'continuous', 'gap', 'denied', 'failed'] as const

export interface ChannelVerdict {
  channel: string
  verdict: (typeof verdicts)[number]
  /** null: the channel has no history. */
  position: string | null
}

export interface ChannelMessage {
  channel: string
  /** null: the channel has no history. */
  position: string | null
  data: Payload
}

export function encodeClientHello(hello: ClientHello): string {
  return `h${JSON.stringify(hello)}`
}

/** Throws BAD_REQUEST naming the field. Fields that are not known are passed over. */
export function parseClientHello(frame: string): ClientHello {
  if (isLongerThan(frame, helloBytes)) throw invalidFrame(`hello is longer than ${helloBytes} bytes`)
  const { resume } = parseJsonFrame(frame, 'hello')
  return resume === undefined ? {} : { resume: parseResume(resume) }
}

function parseResume(value: unknown): ClientResume {
  if (!isObject(value)) throw invalidFrame('hello.resume must be an object')
  const { session, token, out, channels } = value
  if (!isSessionId(session)) throw invalidFrame('hello.resume.session must be 1 to 64 of A-Z a-z 0-9 _ -')
  if (!is256Bits(token)) throw invalidFrame('hello.resume.token must be 43 characters of base64url')
  if (!isCount(out)) throw invalidFrame('hello.resume.out must be a whole number')
  return { session, token, out, channels: parsePositions(channels) }
}

function parsePositions(value: unknown): Record<string, string | null> {
  if (!isObject(value)) throw invalidFrame('hello.resume.channels must be an object')
  const entries = Object.entries(value)
  if (entries.length > helloChannels)
    throw invalidFrame(`hello.resume.channels names more than ${helloChannels} channels`)
  const positions: Record<string, string | null> = Object.create(null)
  for (const [channel, position] of entries) {
    if (!isChannelName(channel)) throw invalidFrame(`hello.resume.channels: ${channelNameRule}`)
    if (!isPosition(position)) throw invalidFrame('hello.resume.channels must hold positions or null')
    positions[channel] = position
  }
  return positions
}

export function encodeClientWelcome(welcome: ClientWelcome): string {
  return `w${JSON.stringify(welcome)}`
}

const welcomeFields: Fields<ClientWelcome> = {
  session: isSessionId,
  token: is256Bits,
  recovered: (value) => value === null || typeof value === 'boolean',
  reason: (value) => value === null || lossReasons.includes(value as LossReason),
  ack: isCount,
  last: isCount,
  out: isCount,
  resumeMs: isMs,
  retryMs: isMs,
  messageBytes: (value) => isCount(value) && value > 0,
}

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseClientWelcome(frame: string): ClientWelcome {
  const welcome = parseFields<ClientWelcome>(frame, 'welcome', welcomeFields)
  if ((welcome.reason === null) === (welcome.recovered === false))
    throw invalidFrame('welcome.reason must say why recovered is false')
  if (welcome.last < welcome.ack) throw invalidFrame('welcome.last must not be below ack')
  return welcome
}

export function encodeVerdict(verdict: ChannelVerdict): string {
  return `v${JSON.stringify(verdict)}`
}

const verdictFields: Fields<ChannelVerdict> = {
  channel: (value) => typeof value === 'string' && isChannelName(value),
  verdict: (value) => verdicts.includes(value as ChannelVerdict['verdict']),
  position: isPosition,
}

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseVerdict(frame: string): ChannelVerdict {
  return parseFields<ChannelVerdict>(frame, 'verdict', verdictFields)
}

export function encodeCount(count: number): string {
  return `a${count}`
}

/** Of an `a` frame. Throws BAD_REQUEST. */
export function parseCount(frame: string): number {
  const count = /^a(?:0|[1-9]\d{0,15})$/.test(frame) ? Number(frame.slice(1)) : -1
  if (!isCount(count)) throw invalidFrame('a must be followed by a whole number')
  return count
}

/** `m` or `l`. Text becomes a text frame, bytes are copied into a binary one. */
export function encodePayload(type: number, data: Payload): Payload {
  const head = String.fromCharCode(type)
  return typeof data === 'string' ? head + data : joined(utf8(head), data)
}

export function payloadOf(frame: Payload): Payload {
  return typeof frame === 'string' ? frame.slice(1) : frame.subarray(1)
}

export function encodeChannelMessage({ channel, position, data }: ChannelMessage): Payload {
  const head = `c${channel}\n${position ?? ''}\n`
  return typeof data === 'string' ? head + data : joined(utf8(head), data)
}

/** Throws BAD_REQUEST. The data of a binary frame are a part of it. */
export function parseChannelMessage(frame: Payload): ChannelMessage {
  const lineFeed = typeof frame === 'string' ? '\n' : 0x0a
  // The two methods have one meaning; their types cannot say so.
  const find = (from: number) => (frame as string).indexOf(lineFeed as string, from)
  const nameEnd = find(1)
  const positionEnd = nameEnd < 0 ? -1 : find(nameEnd + 1)
  if (positionEnd < 0 || nameEnd > channelNameBytes + 1 || positionEnd - nameEnd > positionLength + 1)
    throw invalidFrame('c must be followed by channel, position and payload')
  const channel = textOf(frame, 1, nameEnd)
  if (!isChannelName(channel)) throw invalidFrame('c must be followed by the name of a channel')
  const position = textOf(frame, nameEnd + 1, positionEnd)
  const data = typeof frame === 'string' ? frame.slice(positionEnd + 1) : frame.subarray(positionEnd + 1)
  return { channel, position: position === '' ? null : position, data }
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

function textOf(frame: Payload, start: number, end: number): string {
  return typeof frame === 'string' ? frame.slice(start, end) : decoder.decode(frame.subarray(start, end))
}

function joined(head: Uint8Array, data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(head.length + data.length)
  frame.set(head)
  frame.set(data, head.length)
  return frame
}

function parseJsonFrame(frame: string, name: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(frame.slice(1))
  } catch {
    // Said below: the error of JSON.parse quotes what it could not read, and that may be a token.
  }
  if (!isObject(value)) throw invalidFrame(`${name} must be a JSON object`)
  return value
}

export type Fields<T> = Record<keyof T, (value: unknown) => boolean>

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseFields<T>(frame: string, name: string, fields: Fields<T>): T {
  const value = parseJsonFrame(frame, name)
  for (const field in fields)
    if (!fields[field](value[field])) throw invalidFrame(`${name}.${field} is missing or not allowed`)
  return value as T
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** What a timer takes. */
export function isMs(value: unknown): value is number {
  return isCount(value) && value <= msMax
}

function isPosition(value: unknown): value is string | null {
  return value === null || (typeof value === 'string' && value !== '' && value.length <= positionLength)
}

/** For frames that the protocol does not allow. */
export function invalidFrame(message: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', message)
}
