import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import {
  type LinkRole,
  RecordType,
  type RecordVisitor,
  readU32,
  recordHeaderBytes,
  visitRecords,
  writeRecordHeader,
  writeU32,
} from '../protocol/link-records.ts'
import { frameHeaderBytesMax } from '../protocol/websocket-frame.ts'

/** What a link needs of its socket. */
export interface LinkSocket {
  readonly bufferedAmount: number
  /** What is sent is copied, so that its memory may be used again at once. */
  readonly copies?: boolean
  /** Sends the bytes `start` to `end` as one binary message; the bytes before `start` may be used for its header. */
  send(slab: Buffer, start: number, end: number): void
  close(code: number, reason: string): void
  terminate(): void
}

export interface LinkHandlers {
  record: RecordVisitor
  /** All records of one message have been visited. */
  batchEnd?(): void
  /** Called before each flush, to add what was put off until the end of the turn. */
  beforeFlush?(): void
  /** The link was congested and is not any more. */
  drain?(): void
  close(code: number, reason: string): void
}

export interface LinkOptions {
  /** Which end this is. */
  role: LinkRole
  /** Unsent bytes above which the link counts as congested. */
  highWaterBytes: number
  now: () => number
  /** Calls back at the end of this event-loop turn. Default: `setImmediate`. */
  atTurnEnd?: (step: () => void) => void
}

/** A batch is flushed early at this size, which keeps the copy in the cache and the other side busy. */
const earlyFlushBytes = 64 * 1024
const slabBytes = 256 * 1024
const nothing = Buffer.alloc(0)

/** For the peer to read the close frame. */
const closeGraceMs = 1_000

/**
 * One end of a link. Records are copied into a slab and leave in one write per event-loop turn
 * (`setImmediate`: a microtask would flush after every callback and batch nothing).
 */
export class Link {
  lastHeardAt: number
  rttMs: number | null = null
  congested = false
  closed = false
  /** Replaced when the handshake is done. */
  handlers: LinkHandlers
  private readonly socket: LinkSocket
  private readonly options: LinkOptions
  private readonly sendsFrom: LinkRole
  private readonly atTurnEnd: (step: () => void) => void
  private slab = Buffer.allocUnsafeSlow(slabBytes)
  /** Behind the room for the frame's header. */
  private used = frameHeaderBytesMax
  private scheduled = false

  constructor(socket: LinkSocket, handlers: LinkHandlers, options: LinkOptions) {
    this.socket = socket
    this.handlers = handlers
    this.options = options
    this.sendsFrom = options.role === 'gateway' ? 'node' : 'gateway'
    this.atTurnEnd = options.atTurnEnd ?? setImmediate
    this.lastHeardAt = options.now()
  }

  /** A binary message arrived. */
  receive(batch: Buffer): void {
    if (this.closed) return
    this.lastHeardAt = this.options.now()
    try {
      visitRecords(batch, this.sendsFrom, this.visit)
    } catch (error) {
      if (!(error instanceof EvenkeelError) || error.code !== 'RECORD_INVALID') throw error
      this.close(LinkCloseCode.protocolError, error.message)
    }
    this.handlers.batchEnd?.()
  }

  /** The socket is closed. */
  socketClosed(code: number, reason: string): void {
    if (this.closed) return
    this.closed = true
    this.used = frameHeaderBytesMax
    // Operators see nodes that are down for minutes, and a node may dial as often as it likes.
    this.slab = nothing
    this.handlers.close(code, reason)
  }

  /**
   * Sends what is waiting and closes. The link is over at once: a peer that breaks the protocol need not answer
   * the close frame either.
   */
  close(code: number, reason: string): void {
    if (this.closed) return
    this.flush()
    this.socket.close(code, reason.slice(0, 120))
    setTimeout(() => this.socket.terminate(), closeGraceMs).unref()
    this.socketClosed(code, reason)
  }

  terminate(): void {
    this.socket.terminate()
  }

  ping(): void {
    this.putU32(RecordType.ping, 0, 0, 0, stamp(this.options.now()))
  }

  put(type: number, flags: number, session: number, term: number): void {
    this.begin(0, type, flags, session, term)
  }

  putU32(type: number, flags: number, session: number, term: number, value: number): void {
    const at = this.begin(4, type, flags, session, term)
    writeU32(this.slab, at, value)
  }

  putJson(type: number, session: number, term: number, value: unknown): void {
    const body = Buffer.from(JSON.stringify(value))
    const at = this.begin(body.length, type, 0, session, term)
    body.copy(this.slab, at)
  }

  /** A record with one number and a payload. */
  putPayload(
    type: number,
    flags: number,
    session: number,
    term: number,
    value: number,
    payload: Uint8Array,
  ): void {
    const at = this.begin(4 + payload.length, type, flags, session, term)
    writeU32(this.slab, at, value)
    this.slab.set(payload, at + 4)
  }

  /** The same with a payload that is encoded in place. Returns its size in bytes. */
  putText(
    type: number,
    flags: number,
    session: number,
    term: number,
    value: number,
    payload: string,
  ): number {
    // UTF-8 needs at most three bytes for one UTF-16 unit; what was reserved too much is given back.
    const reserved = payload.length * 3
    const at = this.begin(4 + reserved, type, flags, session, term)
    writeU32(this.slab, at, value)
    const bytes = this.slab.write(payload, at + 4, 'utf8')
    this.used -= reserved - bytes
    writeU32(this.slab, at - recordHeaderBytes, recordHeaderBytes - 4 + 4 + bytes)
    return bytes
  }

  /** A record with several numbers and byte strings (latin1: one character, one byte). */
  putFields(
    type: number,
    flags: number,
    session: number,
    term: number,
    numbers: readonly number[],
    latin1 = '',
  ): void {
    let at = this.begin(numbers.length * 4 + latin1.length, type, flags, session, term)
    for (const value of numbers) {
      writeU32(this.slab, at, value)
      at += 4
    }
    if (latin1.length > 0) this.slab.write(latin1, at, 'latin1')
  }

  /** A link record with a channel's name and a payload. */
  putChannel(type: number, flags: number, channel: string, payload: Uint8Array): void {
    const name = Buffer.from(channel)
    const at = this.begin(2 + name.length + payload.length, type, flags, 0, 0)
    this.slab[at] = name.length
    this.slab[at + 1] = name.length >>> 8
    this.slab.set(name, at + 2)
    this.slab.set(payload, at + 2 + name.length)
  }

  /** CAST: a number, an audience as JSON, and a payload. */
  putCast(flags: number, number: number, audience: object, payload: Uint8Array): void {
    const json = Buffer.from(JSON.stringify(audience))
    const at = this.begin(8 + json.length + payload.length, RecordType.cast, flags, 0, 0)
    writeU32(this.slab, at, number)
    writeU32(this.slab, at + 4, json.length)
    this.slab.set(json, at + 8)
    this.slab.set(payload, at + 8 + json.length)
  }

  /** A record whose body is a channel's name. */
  putName(type: number, session: number, term: number, name: string): void {
    const body = Buffer.from(name)
    const at = this.begin(body.length, type, 0, session, term)
    this.slab.set(body, at)
  }

  putClose(session: number, term: number, code: number, reason: string): void {
    const text = Buffer.from(reason)
    const at = this.begin(2 + text.length, RecordType.close, 0, session, term)
    this.slab[at] = code
    this.slab[at + 1] = code >>> 8
    text.copy(this.slab, at + 2)
  }

  /** Reserves a record and returns where its body begins in `this.slab`, which may be another one afterwards. */
  private begin(bodyBytes: number, type: number, flags: number, session: number, term: number): number {
    const bytes = recordHeaderBytes + bodyBytes
    if (this.used > earlyFlushBytes || this.used + bytes > this.slab.length) this.flushSlab()
    if (this.used + bytes > this.slab.length) this.slab = Buffer.allocUnsafeSlow(this.used + bytes)
    const at = this.used
    writeRecordHeader(this.slab, at, bodyBytes, type, flags, session, term)
    this.used = at + bytes
    this.requestFlush()
    return at + recordHeaderBytes
  }

  private readonly flushScheduled = (): void => {
    this.scheduled = false
    this.flush()
  }

  flush(): void {
    if (this.closed) return
    this.handlers.beforeFlush?.()
    this.flushSlab()
  }

  /** Sees to it that a flush, and with it `beforeFlush`, comes at the end of this turn. */
  requestFlush(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.atTurnEnd(this.flushScheduled)
  }

  private flushSlab(): void {
    const end = this.used
    if (end === frameHeaderBytesMax) return
    this.used = frameHeaderBytesMax
    if (this.closed) return
    this.socket.send(this.slab, frameHeaderBytesMax, end)
    const pending = this.socket.bufferedAmount
    // The kernel has not taken all of it: the socket still refers to this memory.
    const kept = pending > 0 && this.socket.copies !== true
    if (kept || this.slab.length > slabBytes) this.slab = Buffer.allocUnsafeSlow(slabBytes)
    if (pending > this.options.highWaterBytes) this.congested = true
  }

  /** To be called when the socket has been drained, and now and then. */
  checkCongestion(): void {
    if (!this.congested || this.closed || this.socket.bufferedAmount > this.options.highWaterBytes / 2) return
    this.congested = false
    this.handlers.drain?.()
  }

  private readonly visit: RecordVisitor = (type, flags, session, term, batch, start, end) => {
    if (type === RecordType.ping) this.putU32(RecordType.pong, 0, 0, 0, readU32(batch, start))
    else if (type === RecordType.pong) this.rttMs = (stamp(this.options.now()) - readU32(batch, start)) / 100
    else this.handlers.record(type, flags, session, term, batch, start, end)
  }
}

/** Hundredths of a millisecond, wrapped to 32 bits. */
function stamp(nowMs: number): number {
  return Math.floor(nowMs * 100) >>> 0
}
