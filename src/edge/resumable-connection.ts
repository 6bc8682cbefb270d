import type { Socket } from 'node:net'
import type { SharedMessages } from '../gateway/client-connection.ts'
import type { ResumableConnection } from '../gateway/resumable.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import type { Turn } from '../gateway/turn.ts'
import {
  ClientFrame,
  type ClientResume,
  type ClientWelcome,
  encodeClientWelcome,
  encodeCount,
  encodeVerdict,
  parseClientHello,
  parseCount,
} from '../protocol/client-frames.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { formatPosition, type Position } from '../protocol/position.ts'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import type { TurnWriter } from './turn-writer.ts'
import { type ClientSocket, WebSocketConnection } from './websocket-connection.ts'

/** A frame's header, and behind it what kind of frame of ours it is. */
const header = Buffer.alloc(frameHeaderBytesMax + 1)

/** A WebSocket on which `evenkeel.v1` is spoken (PROTOCOL.md §2.1). */
export class ResumableWebSocketConnection extends WebSocketConnection implements ResumableConnection {
  session: ResumableSession | null = null
  private readonly turn: Turn
  private readonly onHello: (resume: ClientResume | null) => void
  /** silent until hello, waiting until the welcome, welcomed until the client's next frame. */
  private phase: 'silent' | 'waiting' | 'welcomed' | 'live' = 'silent'
  /** Number of the last message that the client has sent. */
  private lastMessage = 0
  private committed = 0
  /** What the client was told of that. */
  private acknowledged = 0

  constructor(
    ws: ClientSocket,
    socket: Socket,
    writer: TurnWriter,
    tick: number,
    turn: Turn,
    onHello: (resume: ClientResume | null) => void,
  ) {
    super(ws, socket, writer, tick)
    this.turn = turn
    this.onHello = onHello
  }

  get closed(): boolean {
    return !this.isOpen
  }

  override get awaitsHello(): boolean {
    return this.phase === 'silent'
  }

  received(data: Buffer, text: boolean): void {
    if (!this.isOpen) return
    try {
      this.frame(data, text)
    } catch (error) {
      if (!(error instanceof EvenkeelError) || error.code !== 'BAD_REQUEST') throw error
      this.close(CloseCode.protocolViolation, clipCloseReason(error.message))
    }
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    return this.write(ClientFrame.message, batch, start, end, text)
  }

  deliverLate(batch: Buffer, start: number, end: number, text: boolean): void {
    this.write(ClientFrame.late, batch, start, end, text)
  }

  deliverShared(shared: SharedMessages): void {
    if (!this.isOpen) return
    shared.encoded.resumable ??= encodeChannelFrames(shared)
    this.writer.append(this.out, shared.encoded.resumable)
  }

  verdict(channel: string, verdict: 'joined' | 'continuous' | 'gap', position: Position | null): void {
    this.control(
      encodeVerdict({ channel, verdict, position: position === null ? null : formatPosition(position) }),
    )
  }

  welcome(welcome: ClientWelcome): void {
    this.phase = 'welcomed'
    this.lastMessage = welcome.last
    this.committed = welcome.ack
    this.acknowledged = welcome.ack
    this.control(encodeClientWelcome(welcome))
  }

  acknowledge(seq: number): void {
    // One frame says it for all messages that were committed in this turn.
    if (this.committed === this.acknowledged) this.turn.collect(this.sendAcknowledgement)
    this.committed = seq
  }

  move(): void {
    this.control(String.fromCharCode(ClientFrame.resume))
  }

  override close(code: number, reason: string): void {
    this.sendAcknowledgement()
    super.close(code, reason)
  }

  private readonly sendAcknowledgement = (): void => {
    if (this.acknowledged === this.committed) return
    this.acknowledged = this.committed
    this.control(encodeCount(this.committed))
  }

  private frame(data: Buffer, text: boolean): void {
    const type = data[0]
    if (this.phase === 'silent') {
      if (type !== ClientFrame.hello || !text) throw invalid('the first frame must be hello')
      const { resume = null } = parseClientHello(data.toString())
      this.phase = 'waiting'
      this.onHello(resume)
      return
    }
    if (this.phase === 'waiting') throw invalid('a frame before the welcome')
    const session = this.session!
    if (this.phase === 'welcomed') {
      this.phase = 'live'
      session.tokenReceived()
    }
    if (type === ClientFrame.message) session.receiveNumbered(++this.lastMessage, data.subarray(1), text)
    else if (type === ClientFrame.count && text) session.acknowledge(parseCount(data.toString()))
    else throw invalid('a frame of an unknown kind')
  }

  private control(frame: string): void {
    const bytes = Buffer.from(frame)
    this.write(bytes[0]!, bytes, 1, bytes.length, true)
  }

  private write(type: number, payload: Buffer, start: number, end: number, text: boolean): boolean {
    if (!this.isOpen) return true
    this.writer.write(this.out, header, writeHeader(type, end - start, text), payload, start, end)
    return this.keepsUp()
  }
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', message)
}

/** Returns where the header begins; it ends with `header`. */
function writeHeader(type: number, bytes: number, text: boolean): number {
  header[frameHeaderBytesMax] = type
  return writeFrameHeader(header, frameHeaderBytesMax, bytes + 1, text ? Opcode.text : Opcode.binary, false)
}

function encodeChannelFrames({ channel, messages }: SharedMessages): Buffer {
  const pieces: Buffer[] = []
  for (const { payload, text, position } of messages) {
    const place = Buffer.from(`${channel}\n${position === null ? '' : formatPosition(position)}\n`)
    const headerStart = writeHeader(ClientFrame.channel, place.length + payload.length, text)
    pieces.push(Buffer.from(header.subarray(headerStart)), place, payload)
  }
  return Buffer.concat(pieces)
}
